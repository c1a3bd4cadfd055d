"""Neighbours against scikit-learn's, precision against a count by hand."""

from __future__ import annotations

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from cnnvis_cli.engine.units.neighbors import Metric, chance, nearest, precision_at


@pytest.mark.parametrize(("metric", "name"), [("cosine", "cosine"), ("l2", "euclidean")])
def test_equals_sklearn(metric: Metric, name: str, generator: torch.Generator) -> None:
    base, queries = torch.randn(60, 9, generator=generator), torch.randn(7, 9, generator=generator)
    distances, found = nearest(queries, base, 4, metric, chunk=3)
    wanted, rows = NearestNeighbors(n_neighbors=4, metric=name, algorithm="brute").fit(base.numpy()).kneighbors(queries.numpy())
    assert found.tolist() == rows.tolist()
    torch.testing.assert_close(distances.double(), torch.from_numpy(wanted).double(), atol=1e-5, rtol=1e-5)


def test_a_picture_is_not_its_own_neighbour(generator: torch.Generator) -> None:
    base = torch.randn(10, 3, generator=generator)
    _, found = nearest(base, base, 9, "l2", leave_out=torch.arange(10), chunk=4)
    assert all(sorted([row, *others]) == list(range(10)) for row, others in enumerate(found.tolist()))
    _, found = nearest(base[:1], base, 1, "cosine", leave_out=torch.tensor([-1]))
    assert found.tolist() == [[0]]


def test_precision_and_chance() -> None:
    labels = ["cat", "cat", "dog", "dog", "dog"]
    found = torch.tensor([[1, 2], [3, 4], [3, 0]])
    assert precision_at(found, labels, ["cat", "cat", "dog"]) == pytest.approx((1 + 0 + 1) / 6)
    assert precision_at(found, labels, ["cow", "cow", "cow"]) == 0
    # A cat has 1 cat among 4 others, a dog 2 dogs.
    assert chance(labels) == pytest.approx((2 * 1 / 4 + 3 * 2 / 4) / 5)
