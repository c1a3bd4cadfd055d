"""Directions and the atlas of activations: what is asked of each picture, and which activations meet in a cell."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnnvis_cli.engine.network.activations import INDEX
from cnnvis_cli.engine.units.atlas import cells_of, random_places
from cnnvis_cli.engine.units.directions import coarse, towards


def test_each_picture_is_asked_for_its_own_direction_and_for_it_alone(generator: torch.Generator) -> None:
    vectors = torch.eye(4)[:3] * 5
    maps = torch.zeros(2, 4, 2, 2)
    maps[0, 2], maps[1, 2], maps[1, 3] = 3.0, 3.0, 4.0
    acts = {"a": maps, INDEX: torch.tensor([2, 2])}
    pure, mixed = towards("a", vectors)(acts).tolist()
    assert pure == pytest.approx(3.0)  # dot 3, cosine 1
    assert mixed == pytest.approx(3.0 * (3 / 5) ** 2)  # the same dot, another direction in it too
    other = towards("a", vectors)({"a": maps, INDEX: torch.tensor([0, 2])})
    assert other[0] == 0
    assert towards("a", vectors, power=0)(acts).tolist() == pytest.approx([3.0, 3.0])


def test_maps_are_made_coarse_by_means() -> None:
    maps = torch.arange(24.0).view(1, 4, 6)
    assert coarse(maps, 3).shape == (1, 2, 3)
    torch.testing.assert_close(coarse(maps, 3).mean(), maps.mean())
    assert coarse(maps, 6) is not None
    torch.testing.assert_close(coarse(maps, 6), maps)


def test_random_places_are_of_the_picture_and_off_the_border(generator: torch.Generator) -> None:
    maps = torch.zeros(2, 3, 8, 8)
    maps[:, :, 1:-1, 1:-1] = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    maps[1] *= 10
    found = random_places(maps, 5, generator)
    assert found.shape == (2, 5, 3)
    assert found[0].unique(dim=0).tolist() == [[1.0, 2.0, 3.0]]
    assert found[1].unique(dim=0).tolist() == [[10.0, 20.0, 30.0]]


def test_cells_hold_who_lies_in_them(generator: torch.Generator) -> None:
    low = np.random.default_rng(0).uniform(0, 1, (40, 2))
    points = np.concatenate([low, low + 9.0, [[4.5, 4.5]]])
    vectors = torch.cat([torch.zeros(40, 2), torch.ones(40, 2), torch.full((1, 2), 7.0)])
    labels = ["a"] * 40 + ["b"] * 40 + ["c"]
    cells = cells_of(points[:80], vectors[:80], labels[:80], 2, 3)
    assert [(cell.row, cell.column, cell.label, cell.members) for cell in cells] == [(0, 1, "b", 40), (1, 0, "a", 40)]
    assert cells[0].mean.tolist() == [1.0, 1.0]
    alone = cells_of(points, vectors, labels, 5, 3)
    assert {cell.label for cell in alone} == {"a", "b"}, "a cell with one member stays empty"
