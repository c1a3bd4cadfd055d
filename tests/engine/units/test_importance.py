"""Channels removed: equal to cutting the network open by hand, nothing left behind, and a curve that tells junk from use."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.network import Network, Preprocessing
from cnnvis_cli.engine.units.importance import channel_importance, codes_without, masked, pruning_curve


class Branches(nn.Module):
    """Two branches concatenated, a residual connection and a rectifier that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2)
        self.left = nn.Conv2d(6, 4, 1)
        self.right = nn.Conv2d(6, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.mix = nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        x = torch.cat([self.left(x), self.right(x)], 1)
        x = x + self.mix(self.relu(x))
        return self.fc(x.mean((2, 3)))


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 28 * 28, 4)
    )
    return Network.frozen("small", module, Preprocessing(size=32, resize=32))


@pytest.fixture
def branches() -> Network:
    torch.manual_seed(0)
    return Network.frozen("branches", Branches(), Preprocessing(size=32, resize=32))


def test_importance_equals_cutting_the_network_open(network: Network, images: Tensor) -> None:
    pictures = images[..., :32, :32]
    found = channel_importance(network, pictures, "1", batch=3)
    maps = activations(network, pictures, ["1"])["1"]
    rest = network.module[2:]
    with torch.no_grad():
        whole = rest(maps)
        for channel in (0, 5):
            without = maps.clone()
            without[:, channel] = 0
            expected = (rest(without) - whole).square().sum(1) / whole.square().sum(1)
            torch.testing.assert_close(found[:, channel], expected)


def test_silent_channel_does_not_matter(network: Network, images: Tensor) -> None:
    with torch.no_grad():
        network.module[0].weight[2] = 0
        network.module[0].bias[2] = -1
    assert channel_importance(network, images[:1, :, :32, :32], "1")[0, 2] < 1e-9


@pytest.mark.parametrize("layer", ["stem", "left", "relu", "mix"])
def test_codes_without_in_branches_and_shared_layers(branches: Network, images: Tensor, layer: str) -> None:
    """The shortcut of running the lower layers once gives what full batches give; a shared layer counts at its last call."""
    picture = images[:1, :, :32, :32]
    channels = branches.layer(layer).channels
    masks = 1 - torch.eye(channels)
    found = codes_without(branches, picture, layer, "fc", masks)
    assert found.shape == (channels, 5)
    with torch.no_grad(), masked(branches, layer, masks):
        expected = branches(picture.expand(channels, -1, -1, -1))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    if layer == "relu":
        first = branches.module.relu(branches.module.stem(branches.normalize(picture)))
        x = torch.cat([branches.module.left(first), branches.module.right(first)], 1)
        seen = x.relu().expand(channels, -1, -1, -1) * masks[:, :, None, None]
        torch.testing.assert_close(
            found, branches.module.fc((x + branches.module.mix(seen)).mean((2, 3))), rtol=1e-4, atol=1e-6
        )


def test_mask_is_undone_also_after_an_exception(network: Network, images: Tensor) -> None:
    pictures = images[..., :32, :32]
    before = network(pictures)

    def fail() -> None:
        with masked(network, "1", torch.zeros(1, 8)):
            assert not torch.equal(network(pictures), before)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert torch.equal(network(pictures), before)
    assert all(not child._forward_hooks for child in network.module.modules())


def test_following_layer_must_follow(network: Network, images: Tensor) -> None:
    with pytest.raises(UserError, match="does not come after"):
        channel_importance(network, images[..., :32, :32], "3", "1")


def test_least_important_maps_cost_less_than_random_ones(generator: torch.Generator) -> None:
    """Classes are told by the first channels alone; the others are noise that the classifier ignores almost."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 12, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 3))
    with torch.no_grad():
        module[0].weight.zero_()
        module[0].weight[:3, :, 0, 0] = torch.eye(3)
        module[0].weight[3:, :, 0, 0] = 0.3 * torch.rand(9, 3)
        module[4].weight.zero_()
        module[4].bias.zero_()
        module[4].weight[:, :3] = torch.eye(3)
        module[4].weight[:, 3:] = 0.01 * torch.randn(3, 9)
    network = Network.frozen("told", module, Preprocessing((0.0,) * 3, (1.0,) * 3, size=8, resize=8))
    labels = torch.arange(30) % 3
    pictures = 0.3 * torch.rand(30, 3, 8, 8, generator=generator)
    pictures[torch.arange(30), labels] += 0.5
    importance = channel_importance(network, pictures[:6], "1").mean(0)
    assert set(importance.topk(3).indices.tolist()) == {0, 1, 2}
    curve = pruning_curve(network, pictures, labels, "1", importance, (0, 0.25, 0.5, 0.75, 1.0), draws=4, generator=generator)
    assert curve.removed == (0, 3, 6, 9, 12)
    assert curve.least[0] == 1
    assert curve.least[3] == 1
    assert curve.random.shape == (4, 5)
    assert curve.random[:, 3].mean() < 0.9
    assert curve.least[-1] < 0.5
