"""Nearest neighbours among feature vectors, and how often they share a label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Metric = Literal["cosine", "l2"]


def nearest(
    queries: Tensor, base: Tensor, count: int, metric: Metric, *, leave_out: Tensor | None = None, chunk: int = 1024
) -> tuple[Tensor, Tensor]:
    """Distances and indices (Q, count) of the rows of `base` (N, D) nearest to `queries` (Q, D), nearest first.

    cosine: 1 minus the cosine of the angle. l2: the Euclidean distance. `leave_out` (Q,): a row that is not to be found for
    that query (the query itself), or -1. Memory: `chunk` times N numbers.
    """
    if metric == "cosine":
        queries, base = F.normalize(queries, dim=1), F.normalize(base, dim=1)
    parts = []
    for first in range(0, len(queries), chunk):
        part = queries[first : first + chunk]
        distances = 1 - part @ base.T if metric == "cosine" else torch.cdist(part, base)
        if leave_out is not None:
            own = leave_out[first : first + chunk]
            rows = (own >= 0).nonzero().flatten()
            distances[rows, own[rows]] = torch.inf
        parts.append(distances.topk(min(count, len(base)), dim=1, largest=False))
    return torch.cat([values for values, _ in parts]), torch.cat([indices for _, indices in parts])


def precision_at(found: Tensor, labels: Sequence[str], wanted: Sequence[str]) -> float:
    """Share of the neighbours `found` (Q, k), rows of `labels`, whose label is the query's `wanted` (Q); mean over queries."""
    names = {name: number for number, name in enumerate(dict.fromkeys([*labels, *wanted]))}
    of_base, of_query = (torch.tensor([names[name] for name in group]) for group in (labels, wanted))
    return (of_base[found] == of_query[:, None]).float().mean().item()


def chance(labels: Sequence[str]) -> float:
    """The precision that blind choice among the other pictures reaches on average."""
    counts = torch.tensor([labels.count(name) for name in dict.fromkeys(labels)], dtype=torch.float64)
    return (counts * (counts - 1)).sum().item() / (len(labels) * max(1, len(labels) - 1))
