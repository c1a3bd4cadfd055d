"""Tiles: the gradient across their borders is that of the whole picture, for every objective, so no seam can show."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.locality.tiled_objective import score_by_tiles, value_gradient_by_tiles
from cnnvis_cli.engine.network.network import Network, Preprocessing
from cnnvis_cli.engine.optim.evaluate import score, value_gradient
from cnnvis_cli.engine.optim.objectives import channel, layer_energy, neuron, total_variation
from cnnvis_cli.engine.synthesis.dream import guided, mirrored_jitter


@pytest.fixture
def picture(generator: torch.Generator) -> Tensor:
    return torch.rand(1, 3, 150, 214, generator=generator)


@pytest.mark.parametrize(
    "objective",
    [
        layer_energy("relu3_1"),
        channel("relu2_2", 5) - 0.5 * layer_energy("pool1") - 0.1 * total_variation(),
        neuron("relu3_1", 7, 9, 20),
        guided("relu2_1", torch.rand(1, 64, 5, 4)),
    ],
    ids=lambda objective: objective.label,
)
def test_gradient_in_tiles_is_that_of_the_whole(minivgg: Network, picture: Tensor, objective: object) -> None:
    index = torch.arange(1)
    values, gradient = value_gradient(minivgg, objective)(picture, index)  # type: ignore[arg-type]
    tiled_values, tiled = value_gradient_by_tiles(minivgg, objective, 64)(picture, index)  # type: ignore[arg-type]
    torch.testing.assert_close(tiled_values, values, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(tiled, gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max().item())
    torch.testing.assert_close(score_by_tiles(minivgg, objective, picture, 64), score(minivgg, objective, picture))  # type: ignore[arg-type]


def test_gradient_does_not_stand_out_at_tile_borders(minivgg: Network, picture: Tensor) -> None:
    """Magnitude along the borders of tiles of 64 px against everywhere else, away from the picture's own border."""
    objective = layer_energy("relu3_1")
    _, whole = value_gradient(minivgg, objective)(picture, torch.arange(1))
    _, gradient = value_gradient_by_tiles(minivgg, objective, 64)(picture, torch.arange(1))
    borders = torch.zeros(150, 214, dtype=torch.bool)
    borders[[63, 64], 20:-20] = True
    borders[20:-20, [63, 64, 127, 128]] = True
    inside = torch.zeros_like(borders)
    inside[20:-20, 20:-20] = True

    def ratio(values: Tensor) -> float:
        size = values.abs().mean((0, 1))
        return (size[borders].mean() / size[inside & ~borders].mean()).item()

    assert ratio(gradient) == pytest.approx(ratio(whole), rel=1e-3)


def test_transform_is_followed_back(minivgg: Network, picture: Tensor) -> None:
    objective = layer_energy("relu2_1")
    one, other = (torch.Generator().manual_seed(3) for _ in range(2))
    _, whole = value_gradient(minivgg, objective, transform=mirrored_jitter(7), generator=one)(picture, torch.arange(1))
    _, tiled = value_gradient_by_tiles(minivgg, objective, 64, transform=mirrored_jitter(7), generator=other)(
        picture, torch.arange(1)
    )
    torch.testing.assert_close(tiled, whole, rtol=1e-3, atol=1e-4 * whole.abs().max().item())


def test_ceiled_pools_without_padding(picture: Tensor) -> None:
    """SqueezeNet: no padding in the first layer, pools that round up, blocks that branch."""
    models = pytest.importorskip("torchvision").models
    torch.manual_seed(0)
    network = Network.frozen("squeezenet1_0", models.squeezenet1_0(), Preprocessing())
    objective = layer_energy("features.4")
    values, whole = value_gradient(network, objective)(picture, torch.arange(1))
    tiled_values, tiled = value_gradient_by_tiles(network, objective, 64)(picture, torch.arange(1))
    torch.testing.assert_close(tiled_values, values, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(tiled, whole, rtol=1e-3, atol=1e-4 * whole.abs().max().item())


def test_a_layer_that_sees_everything_is_refused(minivgg: Network, picture: Tensor) -> None:
    with pytest.raises(UserError, match="see all"):
        value_gradient_by_tiles(minivgg, channel("fc", 3), 64)
