"""Scores of a heat map: a true one beats a random one, and a map that ignores the network is found out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cnnvis_cli.engine.attribution import gradients
from cnnvis_cli.engine.attribution.faithfulness import (
    deletion_insertion,
    randomized,
    rank_correlation,
    rivals,
    sanity_check,
)
from cnnvis_cli.engine.attribution.segmentation import concentration, object_mask
from cnnvis_cli.engine.network.network import Network, Preprocessing
from cnnvis_cli.engine.optim.objectives import class_logit
from tests.support.modules import Detector, TwoLayers


@pytest.fixture
def red() -> Network:
    return Network.frozen("red", Detector(), Preprocessing((0.0,) * 3, (1.0,) * 3, size=40))


@pytest.fixture
def square() -> Tensor:
    image = torch.zeros(3, 40, 30)
    image[0, 10:20, 5:20] = 1.0
    return image


def test_a_true_map_deletes_fast_and_inserts_fast(red: Network, square: Tensor, generator: torch.Generator) -> None:
    target = class_logit(red, 1)
    truth = deletion_insertion(red, square, square[0], target, steps=8)
    assert truth.deletion[0] == truth.insertion[-1] == pytest.approx(150 / 1200)
    assert truth.deletion[-1] == 0
    random = deletion_insertion(red, square, torch.rand(square[0].shape, generator=generator), target, steps=8)
    inverse = deletion_insertion(red, square, -square[0], target, steps=8)
    assert truth.deletion_auc < random.deletion_auc < inverse.deletion_auc
    assert truth.insertion_auc > random.insertion_auc > inverse.insertion_auc
    # Pixels in a random order: the square goes in a straight line, half of it on average.
    assert random.deletion_auc == pytest.approx(0.5 * 150 / 1200, rel=0.1)


def test_rivals_are_as_uneven_as_the_map_and_lie_elsewhere(red: Network, square: Tensor) -> None:
    """A map on the object beats each of them, and a map that is one of them beats itself never."""
    target = class_logit(red, 1)
    others = rivals(square[0])
    assert set(others) == {"shifted", "mirrored", "centre"}
    torch.testing.assert_close(others["shifted"].sum(), square[0].sum())
    truth = deletion_insertion(red, square, square[0], target, steps=8)
    for name, other in others.items():
        curves = deletion_insertion(red, square, other, target, steps=8)
        assert truth.deletion_auc < curves.deletion_auc, name
        assert truth.insertion_auc > curves.insertion_auc, name


def test_randomized_weights_change_a_gradient_but_not_an_edge_detector(images: Tensor, generator: torch.Generator) -> None:
    network = Network.frozen("tiny", TwoLayers(torch.relu), Preprocessing(size=64))
    before = network.module.first.weight.clone()

    def gradient(of: Network) -> Tensor:
        return gradients.strongest(gradients.gradient(of, images[:1], class_logit(of, 1)))[0]

    stages = sanity_check(network, gradient, gradient(network), generator)
    assert [stage.layer for stage in stages] == ["last", "last", "second", "second", "first"]
    assert abs(stages[-1].correlation) < 0.5
    assert stages[-1].correlation == rank_correlation(gradient(network), stages[-1].heat)
    edges = images[0].diff(dim=1).abs().amax(0)
    unmoved = sanity_check(network, lambda _: edges, edges, generator)
    assert [stage.correlation for stage in unmoved] == pytest.approx([1.0] * 5)
    assert torch.equal(network.module.first.weight, before), "the network itself must stay as it is"
    last = randomized(network, generator, 0.0)
    assert torch.equal(last.module.first.weight, before)
    assert not torch.equal(last.module.last.weight, network.module.last.weight)


def test_rank_correlation_of_constants_is_zero() -> None:
    assert rank_correlation(torch.ones(4, 4), torch.rand(4, 4)) == 0
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert rank_correlation(values, values**3) == pytest.approx(1.0)


def test_the_object_is_cut_out_along_its_edge(generator: torch.Generator) -> None:
    y, x = torch.meshgrid(torch.arange(70), torch.arange(90), indexing="ij")
    disk = (y - 30) ** 2 + (x - 50) ** 2 < 20**2
    image = torch.where(disk, torch.tensor([0.8, 0.3, 0.2])[:, None, None], torch.tensor([0.3, 0.5, 0.7])[:, None, None])
    image = (image + 0.04 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
    # A vague map: bright in the middle of the object only.
    heat = torch.exp(-((y - 32.0) ** 2 + (x - 47.0) ** 2) / 200) + 0.05 * torch.rand(disk.shape, generator=generator)
    mask = object_mask(image, heat)
    union = (mask | disk).sum()
    assert float((mask & disk).sum() / union) > 0.9
    assert not object_mask(image, torch.zeros(70, 90)).any()


def test_colours_tell_the_object_where_the_map_does_not_reach(generator: torch.Generator) -> None:
    """A map that lights one end of a bar: its colour brings in the other end, and a blob of another colour stays out."""
    bar, blob = torch.zeros(60, 90, dtype=torch.bool), torch.zeros(60, 90, dtype=torch.bool)
    bar[25:37, 10:65], blob[44:56, 40:60] = True, True
    colors = torch.tensor([[0.2, 0.4, 0.3], [0.9, 0.7, 0.1], [0.1, 0.1, 0.9]])
    image = colors[bar.long() + 2 * blob.long()].permute(2, 0, 1)
    image = (image + 0.03 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(90.0), indexing="ij")
    heat = torch.exp(-((y - 31) ** 2) / 2 / 4**2 - (x - 20) ** 2 / 2 / 25**2)
    mask = object_mask(image, heat)
    bright = heat > heat.flatten().quantile(0.9)
    assert float((bright & bar).sum() / (bright | bar).sum()) < 0.6
    assert float((mask & bar).sum() / (mask | bar).sum()) > 0.8
    assert not mask[blob].any()


def test_a_flat_map_is_diffuse_and_a_spot_is_not(generator: torch.Generator) -> None:
    flat, spot = torch.ones(50, 40), torch.zeros(50, 40)
    spot[20:24, 10:14] = 1.0
    assert concentration(flat) == pytest.approx(0.2, abs=0.01)
    assert concentration(spot) > 0.99
    assert concentration(torch.zeros(50, 40)) == 0
    noise = torch.rand(50, 40, generator=generator)
    assert not object_mask(torch.rand(3, 50, 40, generator=generator), noise).any()


def test_a_signed_picture_is_grey_where_nothing_matters(generator: torch.Generator) -> None:
    slopes = torch.zeros(3, 20, 20)
    slopes[0, 5:15, 5:15], slopes[2, 5:15, 5:15] = 2.0, -1.0
    slopes[1, 0, 0] = 500.0  # one bright pixel does not take the contrast away
    picture = gradients.signed_picture(slopes)
    assert picture[:, 18, 18].tolist() == [0.5] * 3
    assert picture[:, 10, 10].tolist() == pytest.approx([1.0, 0.5, 0.25])
    assert picture.max() == 1
