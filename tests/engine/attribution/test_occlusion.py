"""Occlusion: equal to captum and to the plain way for every kind of function, registered to the pixel, honest fallbacks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnvis_cli.engine.attribution.occlusion import FILLS, Occlusion, fill_image, occlude, window_places
from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.locality.incremental import Incremental
from cnnvis_cli.engine.locality.intervals import intervals, local, sliding
from cnnvis_cli.engine.locality.trace import record
from cnnvis_cli.engine.network.activations import IMAGES
from cnnvis_cli.engine.network.network import Network, Preprocessing
from cnnvis_cli.engine.optim.evaluate import score
from cnnvis_cli.engine.optim.objectives import Objective, channel, class_logit
from tests.support.modules import NAMES, Detector, Normalized, random_module

Body = Callable[[nn.ModuleList, Tensor], Tensor]


class Code(nn.Module):
    """A network whose body is one function of its convolutions (8 channels, 3 x 3, dense or as told) and the input's maps."""

    def __init__(self, body: Body, **options: object):
        super().__init__()
        torch.manual_seed(3)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, **({"padding": 1} | options)) for _ in range(3))  # type: ignore[arg-type]
        self.body, self.head = body, nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.convs, self.stem(x)).flatten(2).mean(2))


BODIES: dict[str, tuple[Body, dict]] = {
    "plain": (lambda c, x: c[1](F.relu(c[0](x))), {}),
    "stride": (lambda c, x: c[1](F.relu(c[0](x))), {"stride": 2, "padding": 1}),
    "unpadded stride": (lambda c, x: c[1](F.relu(c[0](x))), {"stride": 2, "padding": 0}),
    "dilation": (lambda c, x: c[0](x), {"dilation": 3, "padding": 2}),
    "same": (lambda c, x: c[0](x), {"padding": "same", "dilation": 2}),
    "groups": (lambda c, x: c[0](x), {"groups": 4}),
    "reflected": (lambda c, x: c[0](x), {"padding_mode": "reflect"}),
    "max pool": (lambda c, x: c[0](F.max_pool2d(x, 3, 2, 1)), {}),
    "max pool, ceil": (lambda c, x: c[0](F.max_pool2d(x, 3, 2, ceil_mode=True)), {}),
    "average pool": (lambda c, x: c[0](F.avg_pool2d(x, 2)), {}),
    "average pool, padded": (lambda c, x: c[0](F.avg_pool2d(x, 3, 2, 1)), {}),
    "average pool, padding not counted": (lambda c, x: c[0](F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)), {}),
    "residual": (lambda c, x: F.relu(x + c[1](F.relu(c[0](x)))), {}),
    "residual in place": (lambda c, x: c[1](x).add_(x).relu_(), {}),
    "skipping pixels": (lambda c, x: c[0](x) + F.conv2d(x, c[1].weight[..., :1, :1], stride=2), {"stride": 2}),
    "concatenation": (lambda c, x: torch.cat([c[0](x)[:, :4], x.chunk(2, 1)[0]], 1), {}),
    "inception": (lambda c, x: torch.cat([c[0](c[1](x)).chunk(2, 1)[0], F.max_pool2d(x, 5, 1, 2).split(4, 1)[1]], dim=1), {}),
    "gate": (lambda c, x: c[0](x) * x.mean((2, 3), keepdim=True).sigmoid(), {}),
    "shuffle": (lambda c, x: c[0](x.view(x.size(0), 2, 4, *x.shape[2:]).transpose(1, 2).reshape(x.shape)), {}),
    "threshold": (lambda c, x: c[1](F.threshold(c[0](x), 0, 0)), {}),
    "response norm": (lambda c, x: c[0](F.local_response_norm(x, 3)), {}),
    "constant map": (lambda c, x: c[0](x + torch.linspace(-1, 1, x.shape[3])), {}),
    "one row": (lambda c, x: F.conv2d(x, c[0].weight[:, :, 1:2], padding=(0, 1)), {}),
    "control flow": (lambda c, x: c[0](x) if x.shape[2] > 5 else c[1](x), {}),
}  # fmt: skip


def network_of(body: Body, **options: object) -> Network:
    return Network.frozen("code", Code(body, **options), Preprocessing(size=32))


def run(network: Network, image: Tensor, target: Objective, window: int = 6, stride: int = 3, **options: object) -> Occlusion:
    fill = torch.full_like(image, 0.5)
    return occlude(network, image, target, fill, window=(window, window), stride=(stride, stride), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", BODIES)
def test_recomputing_boxes_equals_recomputing_all(name: str, generator: torch.Generator) -> None:
    body, options = BODIES[name]
    network = network_of(body, **options)
    image = torch.rand(3, 37, 30, generator=generator)
    places = [window_places(pixels, 5, 2) for pixels in image.shape[1:]]
    boxes = Incremental(network, image, torch.zeros_like(image), frozenset(["head"]), *places)
    plain = run_plain(network, image, class_logit(network, 2), 5, 2)
    for rows in torch.arange(len(places[0])).split(5):
        found = boxes(rows, torch.arange(len(places[1])))["head"][:, 2].view(len(rows), -1)
        torch.testing.assert_close(found, plain[rows], rtol=0, atol=1e-5 * float(plain.max() - plain.min()) + 1e-6)


def run_plain(network: Network, image: Tensor, target: Objective, window: int, stride: int) -> Tensor:
    """The target for every window, one full forward pass each, blackened by hand."""
    rows, columns = (window_places(pixels, window, stride).tolist() for pixels in image.shape[1:])
    pictures = image.repeat(len(rows), len(columns), 1, 1, 1)
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            pictures[i, j, :, top:bottom, left:right] = 0
    return score(network, target, pictures.flatten(0, 1)).view(len(rows), len(columns))


@pytest.mark.parametrize("name", BODIES)
def test_nothing_outside_the_computed_reach_changes(name: str, generator: torch.Generator) -> None:
    body, options = BODIES[name]
    network = network_of(body, **options)
    image = torch.rand(1, 3, 37, 30, generator=generator)
    changed = image.clone()
    changed[:, :, 11:15, 20:24] = 0
    tape, other = (record(network, picture, ["head"]) for picture in (image, changed))
    rows, columns = intervals(tape, 0, *torch.tensor([[11], [15]])), intervals(tape, 1, *torch.tensor([[20], [24]]))
    followed = 0
    for number, value in enumerate(tape.values):
        if rows[number] is not None and columns[number] is not None:
            (top, bottom), (left, right) = ([int(bound) for bound in side[number]] for side in (rows, columns))
            difference = (other.values[number] - value).abs().amax((0, 1))
            assert difference.count_nonzero() > 0
            difference[top:bottom, left:right] = 0
            assert difference.count_nonzero() == 0
            followed += 1
    assert followed > 4


@pytest.mark.parametrize("name", NAMES)
def test_captum_has_the_same_heat_map(name: str, generator: torch.Generator) -> None:
    captum = pytest.importorskip("captum.attr")
    module = random_module(name)
    network = Network.frozen(name, module, Preprocessing(size=64))
    image = torch.rand(3, 56, 45, generator=generator)
    ours = run(network, image, class_logit(network, 3), 12, 10, check=4, way="boxes")
    assert ours.incremental, ours.reason
    theirs = captum.Occlusion(Normalized(module, network)).attribute(
        image[None], (3, 12, 12), strides=(3, 10, 10), baselines=0.5, target=3, perturbations_per_eval=16
    )
    spread = float(ours.drops.max() - ours.drops.min())
    assert float((ours.heat - theirs[0, 0]).abs().max()) < 1e-4 * spread
    assert ours.difference is not None
    assert ours.difference < 1e-4 * spread


def test_inner_channels_and_pictures_are_targets_too(generator: torch.Generator) -> None:
    network = network_of(BODIES["plain"][0])
    image = torch.rand(3, 32, 32, generator=generator)
    brightness = Objective(frozenset(), lambda acts: acts[IMAGES].mean((1, 2, 3)))
    target = channel("convs.0", 4) + brightness
    found, plain = run(network, image, target, check=3, way="boxes"), run(network, image, target, way="plain")
    assert found.incremental
    assert not plain.incremental
    torch.testing.assert_close(found.heat, plain.heat, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(40, 40), (41, 33), (23, 57)])
def test_a_planted_square_is_found_to_the_pixel(height: int, width: int) -> None:
    network = Network.frozen("red", Detector(), Preprocessing((0.0,) * 3, (1.0,) * 3, size=40))
    image = torch.zeros(3, height, width)
    image[0, 9:14, 17:23] = 1.0
    found = occlude(
        network, image, class_logit(network, 1), torch.zeros_like(image), window=(1, 1), stride=(1, 1)
    )  # fmt: skip
    assert found.incremental
    torch.testing.assert_close(found.heat * image[0].numel(), image[0], rtol=0, atol=1e-3)
    found = occlude(network, image, class_logit(network, 1), torch.zeros_like(image), window=(5, 6), stride=(1, 1))
    assert found.most_important == (9, 17, 5, 6)
    assert found.heat.shape == image.shape[1:]


def test_overlapping_windows_are_averaged() -> None:
    network = Network.frozen("red", Detector(), Preprocessing((0.0,) * 3, (1.0,) * 3, size=40))
    image = torch.zeros(3, 4, 4)
    image[0, 0, 0] = 1.0
    heat = occlude(network, image, class_logit(network, 1), torch.zeros_like(image), window=(2, 4), stride=(1, 1)).heat
    torch.testing.assert_close(heat[:, 0] * 16, torch.tensor([1.0, 0.5, 0.0, 0.0]))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.attend, self.head = (
            nn.Conv2d(3, 8, 4, 4),
            nn.MultiheadAttention(8, 2, batch_first=True),
            nn.Linear(8, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.conv(x).flatten(2).mT
        return self.head(self.attend(tokens, tokens, tokens, need_weights=False)[0].mean(1))


class Branching(nn.Module):
    """Looks at values, which no tape of another picture can know."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.head((y if float(x.mean()) > 10 else -y).mean((2, 3)))


@pytest.mark.parametrize(("module", "why"), [(Attention, "multi_head"), (Branching, "__float__")])
def test_networks_it_cannot_cut_are_evaluated_the_plain_way(module: type[nn.Module], why: str, images: Tensor) -> None:
    torch.manual_seed(0)
    network = Network.frozen("odd", module(), Preprocessing(size=64))
    found = run(network, images[0], class_logit(network, 0), 24, 20, way="boxes")
    assert not found.incremental
    assert why in found.reason
    plain = run(network, images[0], class_logit(network, 0), 24, 20, way="plain")
    torch.testing.assert_close(found.heat, plain.heat)


def test_every_fill_is_a_picture(images: Tensor, generator: torch.Generator) -> None:
    network = network_of(BODIES["plain"][0])
    fills = {name: fill_image(network, images[0], name, generator) for name in FILLS}
    for fill in fills.values():
        assert fill.shape == images[0].shape
        assert fill.min() >= 0
        assert fill.max() <= 1
    torch.testing.assert_close(fills["mean"][:, 5, 5], network.mean_color)
    assert fills["zero"].max() == 0
    assert fills["blur"].std() < 0.2 * images[0].std()
    torch.testing.assert_close(fills["blur"].mean(), images[0].mean(), rtol=0.02, atol=0)
    assert fill_image(network, images[0], (1.0, 0.0, 0.5), generator)[:, 3, 4].tolist() == [1.0, 0.0, 0.5]
    with pytest.raises(UserError, match="'blur'"):
        fill_image(network, images[0], "blurr", generator)


@pytest.mark.parametrize(("window", "stride"), [(65, 8), (0, 1), (8, 0), (8, -1), (8, 9)])
def test_impossible_windows_are_refused(window: int, stride: int) -> None:
    with pytest.raises(UserError, match=r"window|stride"):
        window_places(64, window, stride)


def test_every_step_of_a_tape_is_known(images: Tensor) -> None:
    network = Network.frozen("resnet18", random_module("resnet18"), Preprocessing(size=64))
    tape = record(network, images[:1], ["fc"])
    kinds = ["window" if sliding(step) else "local" if local(step, tape) else step.name for step in tape.steps]
    assert kinds.count("window") == 21
    assert set(kinds) == {"window", "local", "adaptive_avg_pool2d", "flatten", "linear", "float"}
