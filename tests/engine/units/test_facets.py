"""Facets: clusters of the pictures that a unit likes, of several pictures each."""

from __future__ import annotations

import torch

from cnnvis_cli.engine.network.network import Network, Preprocessing
from cnnvis_cli.engine.optim.objectives import channel
from cnnvis_cli.engine.units.facets import LEAST, facets_of


def _network() -> Network:
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 4),
    )
    return Network.frozen("small", module.eval(), Preprocessing(size=16, resize=16))


def _colored(color: tuple[float, float, float], count: int) -> torch.Tensor:
    return (torch.tensor(color).view(1, 3, 1, 1) + 0.02 * torch.randn(count, 3, 16, 16)).clamp(0, 1)


def test_a_picture_that_lies_apart_is_no_facet() -> None:
    torch.manual_seed(1)
    pictures = torch.cat([_colored((0.5, 0.3, 0.3), 8), _colored((0.3, 0.5, 0.3), 6), _colored((0.0, 0.0, 1.0), 1)])
    facets = facets_of(_network(), channel("1", 0), pictures, 2, seed=0)
    assert sorted(map(sorted, (facet.members for facet in facets))) == [list(range(8)), list(range(8, 14))]
    for facet in facets:
        assert torch.allclose(facet.mean, pictures[facet.members].mean(0), atol=1e-5)


def test_where_there_are_too_few_every_picture_stays() -> None:
    pictures = torch.cat([_colored((0.9, 0.1, 0.1), 2), _colored((0.1, 0.9, 0.1), 1)])
    facets = facets_of(_network(), channel("1", 0), pictures, 2, seed=0)
    assert sum(len(facet.members) for facet in facets) == 3 < LEAST * 2
