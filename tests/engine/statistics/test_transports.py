"""Transports: what the statistics lower, they bring to zero, and no further than that."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cnnvis_cli.engine.statistics import Sliced, Wasserstein
from cnnvis_cli.engine.statistics.base import add
from cnnvis_cli.engine.statistics.transports import (
    TRANSPORTS,
    WCT,
    AdaIN,
    Histogram,
    OptimalTransport,
    blended,
    mean_covariance,
    precise_moments,
)

GAUSSIAN = [WCT, OptimalTransport]


def features(generator: torch.Generator, channels: int, side: int, *, rectified: bool = True) -> Tensor:
    """Correlated ones, float32."""
    mixed = torch.randn(channels, channels, generator=generator) @ torch.randn(channels, side * side, generator=generator)
    maps = mixed.view(1, channels, side, side) + torch.randn(1, channels, 1, 1, generator=generator)
    return maps.relu() if rectified else maps


def distance(one: Tensor, other: Tensor) -> float:
    statistic = Wasserstein()
    target = statistic.target([statistic.summary(other.double())], [1.0])
    return statistic.between(one.double(), target).item()


@pytest.mark.parametrize("kind", GAUSSIAN)
@pytest.mark.parametrize(("channels", "side", "style_side"), [(16, 20, 12), (96, 12, 9), (96, 9, 9)])
def test_means_and_covariances_become_the_targets(
    kind: type, channels: int, side: int, style_side: int, generator: torch.Generator
) -> None:
    """With fewer positions than channels too, where neither covariance has full rank."""
    content, style = features(generator, channels, side), features(generator, channels, style_side)
    transport = kind()
    moved = transport.map(content, transport.target([style], [1.0]))(content)
    assert distance(content, style) > 0.01
    assert distance(moved, style) < 1e-4


def test_optimal_transport_moves_least(generator: torch.Generator) -> None:
    for _ in range(5):
        content, style = features(generator, 24, 16), features(generator, 24, 16)
        moved = {}
        for kind in GAUSSIAN:
            transport = kind()
            found = transport.map(content, transport.target([style], [1.0]))(content)
            moved[kind] = (found - content).square().sum().item()
        assert moved[OptimalTransport] < moved[WCT]


@pytest.mark.parametrize("name", TRANSPORTS)
def test_its_own_statistics_change_nothing(name: str, generator: torch.Generator) -> None:
    content = features(generator, 12, 14)
    transport = TRANSPORTS[name]()
    moved = transport.map(content, transport.target([content], [1.0]))(content)
    assert torch.allclose(moved, content, atol=1e-4 * content.abs().max().item())


@pytest.mark.parametrize("name", TRANSPORTS)
def test_positions_do_not_matter(name: str, generator: torch.Generator) -> None:
    content, style = features(generator, 8, 10, rectified=False), features(generator, 8, 10)
    order = torch.randperm(100, generator=generator)
    shuffled = content.flatten(2)[:, :, order].view_as(content)
    transport = TRANSPORTS[name]()
    target = transport.target([style], [1.0])
    first, second = transport.map(content, target)(content), transport.map(shuffled, target)(shuffled)
    assert torch.allclose(first.flatten(2)[:, :, order], second.flatten(2), atol=1e-4)


def test_adain_has_the_targets_means_and_deviations_and_its_own_correlations(generator: torch.Generator) -> None:
    content, style = features(generator, 10, 16), features(generator, 10, 20)
    transport = AdaIN()
    moved = transport.map(content, transport.target([style], [1.0]))(content)
    mean, covariance = mean_covariance(precise_moments(moved))
    wanted, goal = mean_covariance(precise_moments(style))
    assert torch.allclose(mean, wanted, atol=1e-4)
    assert torch.allclose(covariance.diagonal(dim1=1, dim2=2), goal.diagonal(dim1=1, dim2=2), rtol=1e-4)
    assert torch.allclose(torch.corrcoef(moved[0].flatten(1)), torch.corrcoef(content[0].flatten(1)), atol=1e-4)


def test_a_histogram_is_the_targets_on_every_axis(generator: torch.Generator) -> None:
    content, style = features(generator, 6, 16), features(generator, 6, 16)
    transport = Histogram()
    moved = transport.map(content, transport.target([style], [1.0]))(content)
    assert torch.equal(moved.flatten(2).sort(2).values, style.flatten(2).sort(2).values)
    assert Sliced().between(moved, Sliced().target([Sliced().summary(style)], [1.0])).item() > 0  # axes only, as it says


def test_equal_values_are_spread_without_bands(generator: torch.Generator) -> None:
    """Half of a rectified map is zero: what these places become must not follow the reading order."""
    content = torch.zeros(1, 1, 32, 32)
    style = torch.rand(1, 1, 32, 32, generator=generator)
    transport = Histogram(3)
    moved = transport.map(content, transport.target([style], [1.0]))(content)
    rows = moved.mean((0, 1, 3))
    assert rows.std() < 0.1  # in reading order it is 0.29
    assert torch.equal(moved, Histogram(3).map(content, transport.target([style], [1.0]))(content))


def test_sums_over_parts_are_the_sums_of_the_whole(generator: torch.Generator) -> None:
    maps, weight = features(generator, 8, 24), torch.rand(24, 24, generator=generator)
    whole = precise_moments(maps, weight)
    parts = add(precise_moments(maps[:, :, :7], weight[:7]), precise_moments(maps[:, :, 7:], weight[7:]))
    assert all(torch.allclose(whole[key], parts[key]) for key in whole)


def test_a_mask_counts_only_what_lies_under_it(generator: torch.Generator) -> None:
    content, style = features(generator, 6, 16), features(generator, 6, 16)
    mask = torch.zeros(16, 16)
    mask[:, :8] = 1
    for name, kind in TRANSPORTS.items():
        transport = kind()
        target = transport.target([style], [1.0])
        moved = transport.map(content, target, mask)(content)[..., :8]
        alone = content[..., :8]
        assert torch.allclose(moved, transport.map(alone, target)(alone), atol=1e-3) or name == "histogram"


def test_no_strength_is_the_content_to_the_bit(generator: torch.Generator) -> None:
    content, moved = torch.rand(2, 1, 4, 8, 8, generator=generator)
    assert blended(content, moved, 0) is content
    assert blended(content, moved, 1) is moved
    assert torch.allclose(blended(content, moved, 0.25), 0.75 * content + 0.25 * moved)


def test_several_styles_are_mixed_by_their_shares(generator: torch.Generator) -> None:
    content, one, two = (features(generator, 6, 12) for _ in range(3))
    for kind in TRANSPORTS.values():
        transport = kind()
        mixed = transport.map(content, transport.target([one, two], [1.0, 0.0]))(content)
        assert torch.allclose(mixed, transport.map(content, transport.target([one], [1.0]))(content), atol=1e-4)
