"""Other borders and pools, and that everything is as before afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.modifications import padded, pooled
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.networks.bundled import minivgg


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network.frozen("minivgg", minivgg(5))


def test_circular_padding_makes_a_torus(network: Network, images: torch.Tensor) -> None:
    with padded(network, "circular"):
        there = activations(network, images.roll((16, 32), (2, 3)), ["relu3_2"])["relu3_2"]
        here = activations(network, images, ["relu3_2"])["relu3_2"]
    torch.testing.assert_close(there, here.roll((4, 8), (2, 3)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mode", ["replicate", "reflect", "circular"])
def test_a_flat_picture_has_no_frame(network: Network, mode: str) -> None:
    flat = torch.full((1, 3, 64, 64), 0.3)
    with padded(network, mode):
        maps = activations(network, flat, ["relu4_1"])["relu4_1"]
    torch.testing.assert_close(maps, maps[:, :, 4:5, 4:5].expand_as(maps), atol=1e-5, rtol=1e-4)
    zeros = activations(network, flat, ["relu4_1"])["relu4_1"]
    assert (zeros - zeros[:, :, 4:5, 4:5]).abs().max() > 1e-3  # with zeros it has one


def test_average_pooling_is_an_average(network: Network, images: torch.Tensor) -> None:
    with pooled(network, "average"):
        acts = activations(network, images, ["relu1_2", "pool1"])
    mean = torch.nn.functional.avg_pool2d(acts["relu1_2"], 2)
    ratio = acts["pool1"] / mean.clamp_min(1e-6)
    torch.testing.assert_close(ratio[mean > 1e-3], torch.full_like(ratio[mean > 1e-3], 2.0))


def test_all_is_undone_also_after_an_error(network: Network, images: torch.Tensor) -> None:
    before = network(images)
    with pytest.raises(ZeroDivisionError), padded(network, "reflect"), pooled(network, "average"):
        raise ZeroDivisionError
    torch.testing.assert_close(network(images), before, atol=0, rtol=0)


def test_blocks_nest(network: Network, images: torch.Tensor) -> None:
    with padded(network, "replicate"), pooled(network, "average"):
        outside = activations(network, images, ["relu2_1"])["relu2_1"]
        with padded(network, "circular"), pooled(network, "average"):
            inside = activations(network, images, ["relu2_1"])["relu2_1"]
        torch.testing.assert_close(activations(network, images, ["relu2_1"])["relu2_1"], outside, atol=0, rtol=0)
    assert not torch.equal(inside, outside)


def test_pools_that_overlap_average_of_themselves() -> None:
    side_by_side, overlapping = nn.MaxPool2d(2), nn.MaxPool2d(3, 2)
    maps = torch.rand(1, 3, 9, 9)
    module = nn.Sequential(
        overlapping, nn.Conv2d(3, 3, 1), side_by_side, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)
    )
    network = Network.frozen("pools", module)
    overlapping, side_by_side = (pool for pool in network.module.modules() if isinstance(pool, nn.MaxPool2d))
    before = overlapping(maps), side_by_side(maps)
    with pooled(network, "auto"):
        assert torch.equal(side_by_side(maps), before[1])
        assert not torch.equal(overlapping(maps), before[0])
        assert overlapping(maps).shape == before[0].shape
    assert torch.equal(overlapping(maps), before[0])
