"""Tiles give the gradient of the whole picture."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.locality.tiling import Tiled, geometry, tiled_value_gradient
from cnnvis_cli.engine.network.activations import IMAGES, activations
from cnnvis_cli.engine.network.modifications import padded
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.evaluate import value_gradient
from cnnvis_cli.engine.optim.objectives import total_variation
from cnnvis_cli.engine.statistics import STATISTICS
from cnnvis_cli.engine.synthesis.style import Region, StyleLoss, content_features, summarize
from cnnvis_cli.networks.bundled import minivgg

STYLE = ("relu1_1", "relu2_1", "relu3_1")
CONTENT = ("relu3_2",)


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network.frozen("minivgg", minivgg(5))


def squeeze() -> Network:
    """Strides without padding and pools that round up, as in SqueezeNet."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 7, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(8, 8, 3, padding=1),
    )  # fmt: skip
    return Network.frozen("squeeze", nn.Sequential(module, nn.AdaptiveAvgPool2d(1), nn.Flatten()))


def noise(height: int, width: int, seed: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def loss_for(network: Network, statistic: str, picture: Tensor, style: tuple, content: tuple, mask: Tensor | None) -> StyleLoss:
    one = STATISTICS[statistic]()
    targets = {
        layer: one.target([summary], [1.0]) for layer, summary in summarize(network, noise(90, 100, 7), one, style).items()
    }
    regions = [Region(targets)] if mask is None else [Region(targets, 0.7, mask), Region(targets, 0.3, 1 - mask)]
    code = content_features(network, picture.flip(2), content)
    return StyleLoss(one, regions, dict.fromkeys(style, 1.0), dict.fromkeys(content, 1.0), code, strength=0.6)


@pytest.mark.parametrize("statistic", ["gram", "wasserstein"])
@pytest.mark.parametrize("masked", [False, True])
def test_gradient_of_tiles_is_that_of_the_whole(network: Network, statistic: str, masked: bool) -> None:
    picture = noise(150, 203, 0)  # no multiple of anything
    mask = noise(150, 203, 3)[0, 0] if masked else None
    loss = loss_for(network, statistic, picture, STYLE, CONTENT, mask)
    pixels = -0.5 * total_variation()
    tiled = tiled_value_gradient(Tiled(network, loss.layers, 64), loss, pixels)
    plain = value_gradient(network, loss.objective() + pixels)
    index = torch.arange(1)
    (values, gradient), (expected_values, expected) = tiled(picture, index), plain(picture, index)
    assert values.item() == pytest.approx(expected_values.item(), rel=1e-5)
    assert ((gradient - expected).norm() / expected.norm()).item() < 1e-5


def test_gradient_with_uneven_strides_and_padding() -> None:
    network = squeeze()
    style, content = ("0.1", "0.6"), ("0.3",)
    picture = noise(151, 180, 0)
    loss = loss_for(network, "wasserstein", picture, style, content, None)
    _, gradient = Tiled(network, loss.layers, 48).evaluate(picture, loss)
    leaf = picture.clone().requires_grad_()
    whole = loss.value(activations(network, leaf, loss.layers))
    (expected,) = torch.autograd.grad(whole.sum(), leaf)
    assert ((gradient - expected).norm() / expected.norm()).item() < 1e-5


@pytest.mark.parametrize("mode", ["replicate", "circular"])
def test_gradient_with_other_padding(network: Network, mode: str) -> None:
    picture = noise(128, 160, 0)
    with padded(network, mode):
        loss = loss_for(network, "wasserstein", picture, STYLE, CONTENT, None)
        _, gradient = Tiled(network, loss.layers, 64, circular=mode == "circular").evaluate(picture, loss)
        leaf = picture.clone().requires_grad_()
        (expected,) = torch.autograd.grad(loss.value(activations(network, leaf, loss.layers)).sum(), leaf)
    assert ((gradient - expected).norm() / expected.norm()).item() < 1e-5


def test_maps_are_stitched_without_a_seam(network: Network) -> None:
    picture = noise(150, 203, 0)
    tiled = Tiled(network, ["relu3_2"], 64)
    expected = activations(network, picture, ["relu3_2"])["relu3_2"]
    torch.testing.assert_close(tiled.maps(picture, "relu3_2"), expected, atol=1e-5, rtol=1e-4)


def test_geometry_of_a_vgg(network: Network) -> None:
    shape = geometry(network, ["relu1_2", "relu3_1"])
    assert dict(shape.strides) == {"relu1_2": 1, "relu3_1": 4}
    # relu3_1 sees 1 + 2 + 2 px at stride 1, then 2 + 2 at stride 2, 1 at stride 4 to each side of its square: 2 + 4 + 4.
    assert shape.step == 4
    assert shape.halo == 12


def test_a_layer_that_sees_everything_cannot_be_tiled(network: Network) -> None:
    with pytest.raises(UserError, match="fc"):
        geometry(network, ["fc"])


def test_the_loss_takes_pictures_as_they_come(network: Network) -> None:
    loss = loss_for(network, "gram", noise(64, 64, 0), STYLE, CONTENT, None)
    acts = activations(network, noise(64, 64, 0), loss.layers)
    assert IMAGES in acts
    assert loss.value(acts).shape == (1,)
