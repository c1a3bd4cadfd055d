"""The order of a layer's axes is measured: maps come as (B, C, h, w) whatever the network's own, for pictures of any shape."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cnnvis_cli.engine.attribution.gradients import grad_cam, grad_cam_layer
from cnnvis_cli.engine.locality.receptive_field import receptive_fields
from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.layouts import grid_of
from cnnvis_cli.engine.network.network import Network, Preprocessing
from cnnvis_cli.engine.optim.objectives import class_logit
from cnnvis_cli.engine.units.importance import masked


class Mixed(nn.Module):
    """Patches of 8 px, then the same maps in four orders: (C, H, W), (H, W, C), (N, C), (C, N), and windows of tokens."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.norm, self.mlp = nn.Conv2d(3, width, 8, 8), nn.LayerNorm(width), nn.Linear(width, width)
        self.rows, self.columns, self.windows = nn.Identity(), nn.Identity(), nn.Identity()
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        last = self.mlp(self.norm(self.patches(x).permute(0, 2, 3, 1)))
        tokens = self.rows(last.flatten(1, 2))
        tokens = self.columns(tokens.mT).mT
        whole = self.windows(tokens.reshape(-1, 4, tokens.shape[2])).reshape(tokens.shape)
        return self.head(whole.mean(1))


@pytest.fixture(scope="module")
def mixed() -> Network:
    return Network.frozen("mixed", Mixed(), Preprocessing(size=96))


@pytest.mark.parametrize(("height", "width"), [(96, 96), (64, 128)])
def test_every_order_gives_the_same_maps(mixed: Network, height: int, width: int) -> None:
    images = torch.rand(2, 3, height, width)
    acts = activations(mixed, images, ["patches", "mlp", "rows", "columns", "windows"])
    assert acts["patches"].shape == acts["mlp"].shape == (2, 12, height // 8, width // 8)
    assert torch.equal(acts["rows"], acts["mlp"])
    assert torch.equal(acts["columns"], acts["mlp"])
    assert torch.equal(acts["windows"], acts["mlp"].flatten(2))
    kinds = {name: layer.layout.kind for name, layer in mixed.layers.items()}
    assert kinds == {
        "patches": "maps", "norm": "maps", "mlp": "maps", "rows": "tokens", "columns": "tokens", "windows": "sequence",
        "head": "vector",
    }  # fmt: skip
    assert all(layer.channels == 12 for name, layer in mixed.layers.items() if name != "head")


def test_as_many_channels_as_places_are_told_apart() -> None:
    """12 x 12 places of 12 channels: the shape alone does not say which is which."""
    network = Network.frozen("cube", Mixed(12), Preprocessing(size=96))
    assert network.layers["mlp"].layout.channel == 3
    assert network.layers["patches"].layout.channel == 1


def test_a_channel_is_masked_in_every_order(mixed: Network) -> None:
    images = torch.rand(2, 3, 96, 96)
    mask = torch.ones(2, 12)
    mask[0, 4] = 0
    for layer in ("patches", "mlp", "rows", "columns", "windows"):
        with masked(mixed, layer, mask):
            seen = activations(mixed, images, ["rows", "columns", "windows"])["windows"]
        plain = activations(mixed, images, ["windows"])["windows"]
        assert torch.allclose(seen[1], plain[1])
        if layer != "patches":
            assert not seen[0, 4].any()
            assert torch.allclose(seen[0, 5], plain[0, 5])


def test_receptive_fields_of_maps_that_lie_channels_last(mixed: Network) -> None:
    fields = receptive_fields(mixed)
    assert fields["patches"].size == fields["mlp"].size == (8, 8)
    assert fields["mlp"].box(1, 2) == (8, 16, 16, 24)


def test_grad_cam_is_the_same_in_every_order(mixed: Network) -> None:
    images = torch.rand(2, 3, 64, 96)
    target = class_logit(mixed, 1)
    maps = grad_cam(mixed, images, target, "mlp")
    assert maps.shape == (2, 8, 12)
    torch.testing.assert_close(grad_cam(mixed, images, target, "rows"), maps)
    torch.testing.assert_close(grad_cam(mixed, images, target, "columns"), maps)
    assert mixed.layers[grad_cam_layer(mixed, target, images)].shape[1:] == (12, 12)


class Transformer(nn.Module):
    """Of one size only: patches, a class token before them, two blocks of attention; the class token alone is read."""

    def __init__(self, extra: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.first = nn.Conv2d(3, 16, 8, 8), nn.Parameter(torch.randn(1, extra, 16))
        self.places = nn.Parameter(torch.randn(1, 16 + extra, 16))
        self.norms = nn.ModuleList([nn.LayerNorm(16) for _ in range(2)])
        self.blocks = nn.ModuleList([nn.MultiheadAttention(16, 2, batch_first=True) for _ in range(2)])
        self.last, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).mT
        x = torch.cat([self.first.expand(len(x), -1, -1), x], 1) + self.places
        for norm, block in zip(self.norms, self.blocks, strict=True):
            y = norm(x)
            x = x + block(y, y, y, need_weights=False)[0]
        return self.head(self.last(x)[:, 0])


@pytest.mark.parametrize("extra", [1, 2, 5])
def test_tokens_are_maps_of_the_grid_without_the_class_token(extra: int) -> None:
    network = Network.frozen("vit", Transformer(extra), Preprocessing(size=32))
    assert network.fixed_size
    images = torch.rand(2, 3, 32, 32)
    layer = network.layers["last"]
    assert (layer.shape, layer.layout.extra) == ((16, 4, 4), extra)
    seen: list[Tensor] = []
    handle = network.module.last.register_forward_hook(lambda m, i, o: seen.append(o))
    acts = activations(network, images, ["last"])["last"]
    handle.remove()
    assert torch.equal(acts, seen[0][:, extra:].mT.reshape(2, 16, 4, 4))


def test_grad_cam_of_a_transformer_looks_where_the_class_token_still_reads() -> None:
    network = Network.frozen("vit", Transformer(), Preprocessing(size=32))
    images, target = torch.rand(1, 3, 32, 32), class_logit(network, 2)
    assert grad_cam_layer(network, target, images) == "norms.1"
    assert grad_cam(network, images, target).shape == (1, 4, 4)
    assert not grad_cam(network, images, target, "last").any()


class Merging(nn.Module):
    """As Swin: a convolution makes the patches and no other follows; a linear layer brings four neighbours together."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.merge, self.norm, self.head = (
            nn.Conv2d(3, 8, 8, 8),
            nn.Linear(32, 16),
            nn.LayerNorm(16),
            nn.Linear(16, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).relu()
        four = torch.cat([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)
        return self.head(self.norm(self.merge(four.permute(0, 2, 3, 1))).mean((1, 2)))


def test_grad_cam_looks_behind_the_last_weights_that_are_no_convolution() -> None:
    network = Network.frozen("merging", Merging(), Preprocessing(size=32))
    assert network.layers["merge"].shape == (16, 2, 2)
    assert grad_cam_layer(network, class_logit(network, 2), torch.rand(1, 3, 32, 32)) == "norm"


def test_grad_cam_passes_over_queries_keys_and_values_in_one() -> None:
    vit = Transformer()
    vit.blocks[1] = Attention()
    network = Network.frozen("vit", vit, Preprocessing(size=32))
    assert network.layers["blocks.1.qkv"].shape == (48, 4, 4)
    assert grad_cam_layer(network, class_logit(network, 2), torch.rand(1, 3, 32, 32)) == "norms.1"


class Attention(nn.Module):
    """As timm writes it: one linear layer makes queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)

    def forward(self, x: Tensor, *args: Tensor, need_weights: bool = False) -> tuple[Tensor]:
        query, key, value = self.qkv(x).chunk(3, 2)
        return ((query @ key.mT / 4).softmax(2) @ value,)


def test_grids_lie_as_the_picture_does() -> None:
    assert grid_of(96, (64, 96)) == (8, 12)
    assert grid_of(96, (96, 64)) == (12, 8)
    assert grid_of(49, (224, 224)) == (7, 7)
    assert grid_of(97, (224, 224)) is None


@pytest.mark.parametrize("kind", ["transformer", "channels last"])
def test_pytorch_grad_cam_has_the_same_maps(kind: str) -> None:
    peer = pytest.importorskip("pytorch_grad_cam")
    if kind == "transformer":
        network = Network.frozen("vit", Transformer(), Preprocessing(size=32))
        layer, module, images = "norms.1", network.module.norms[1], torch.rand(2, 3, 32, 32)

        def reshape(tensor: Tensor) -> Tensor:
            return tensor[:, 1:].mT.reshape(len(tensor), 16, 4, 4)
    else:
        network = Network.frozen("mixed", Mixed(), Preprocessing(size=96))
        layer, module, images = "mlp", network.module.mlp, torch.rand(2, 3, 96, 96)

        def reshape(tensor: Tensor) -> Tensor:
            return tensor.permute(0, 3, 1, 2)

    given = network.normalize(images).requires_grad_()
    with peer.GradCAM(network.module, [module], reshape_transform=reshape) as theirs:
        scores = theirs.activations_and_grads(given)
        scores[:, 3].sum().backward()
        seen = theirs.activations_and_grads
        values, slopes = seen.activations[0].detach().numpy(), seen.gradients[0].detach().numpy()
        expected = theirs.get_cam_image(given, module, None, values, slopes, False).clip(0)
    ours = grad_cam(network, images, class_logit(network, 3), layer)
    torch.testing.assert_close(ours, torch.from_numpy(expected), rtol=1e-4, atol=1e-6)
    assert ours.any()
