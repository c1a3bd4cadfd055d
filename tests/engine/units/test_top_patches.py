"""The best places of a stream are those that one look at everything finds."""

from __future__ import annotations

import torch

from cnnvis_cli.engine.units.top_patches import TopPatches


def test_streaming_equals_sorting_everything(generator: torch.Generator) -> None:
    maps = torch.randn(50, 6, 5, 7, generator=generator)
    found = TopPatches(6, 4)
    for first in range(0, 50, 8):
        part = maps[first : first + 8]
        found.update(part, torch.arange(first, first + len(part)))
    best = maps.flatten(2).max(2).values.T.topk(4, dim=1)
    torch.testing.assert_close(found.values, best.values)
    assert torch.equal(found.pictures, best.indices)
    for unit in range(6):
        for rank in range(4):
            picture, y, x = found.places[:, unit, rank].tolist()
            assert maps[picture, unit, y, x] == found.values[unit, rank]


def test_fewer_pictures_than_asked_for_and_vectors(generator: torch.Generator) -> None:
    vectors = torch.randn(2, 3, generator=generator)
    found = TopPatches(3, 4)
    found.update(vectors, torch.tensor([7, 9]))
    torch.testing.assert_close(found.values[:, :2], vectors.T.sort(dim=1, descending=True).values)
    assert found.values[:, 2:].eq(-torch.inf).all()
    assert set(found.pictures[:, :2].flatten().tolist()) == {7, 9}
    assert found.rows[:, :2].eq(0).all()


def test_memory_does_not_grow() -> None:
    found = TopPatches(2, 3)
    for number in range(100):
        found.update(torch.full((1, 2, 4, 4), float(number)), torch.tensor([number]))
    assert found.values.shape == (2, 3)
    assert found.pictures.tolist() == [[99, 98, 97]] * 2
