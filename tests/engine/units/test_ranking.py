"""Which unit is strongest is not a matter of the picture's border, nor of ties at a rectifier's upper end."""

from __future__ import annotations

import torch

from cnnvis_cli.engine.units.ranking import interior, strengths


def test_a_ring_along_the_border_does_not_count() -> None:
    maps = torch.zeros(2, 12, 16)
    maps[0, 0, :], maps[0, :, -1] = 9.0, 9.0
    maps[1, 5:8, 5:8] = 1.0
    assert strengths(maps).argmax() == 1
    assert strengths(maps)[0] == 0


def test_of_units_cut_off_at_one_value_the_one_that_is_there_more_often_leads() -> None:
    maps = torch.zeros(3, 16, 16)
    maps[0, 8, 8] = 6.0
    maps[1, 4:12, 4:12] = 6.0
    maps[2, 4:12, 4:12] = 5.0
    assert strengths(maps).argsort(descending=True).tolist() == [1, 2, 0]


def test_maps_of_few_places_are_left_whole() -> None:
    assert interior(torch.zeros(4, 5, 9)).shape == (4, 5, 9)
    assert interior(torch.zeros(4, 64, 32)).shape == (4, 52, 26)
