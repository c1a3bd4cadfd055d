"""An activation atlas: what a layer answers at many places of many pictures, laid out in the plane and averaged cell by cell.
Carter, Armstrong, Schubert, Johnson, Olah 2019."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cnnvis_cli.engine.units.ranking import interior


def random_places(maps: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(B, count, C): activations at random places of maps (B, C, h, w), none on the border, where padding is seen."""
    flat = interior(maps).flatten(2)
    chosen = torch.stack([torch.randperm(flat.shape[2], generator=generator)[:count] for _ in range(len(flat))])
    return flat.gather(2, chosen.to(flat.device)[:, None, :].expand(-1, flat.shape[1], -1)).mT


@dataclass(frozen=True)
class Cell:
    """One cell of the plane, from the top left: who lies in it, the mean activation (C,), and the label that most of them share
    with the share of those that do."""

    row: int
    column: int
    members: int
    mean: Tensor
    label: str
    share: float


def cells_of(points: np.ndarray, vectors: Tensor, labels: Sequence[str], side: int, fewest: int) -> list[Cell]:
    """The cells with at least `fewest` members of a grid of `side` x `side` over points (N, 2), which belong to activations
    (N, C). The grid spans all but the outermost hundredth at each end; those lie in its outermost cells."""
    low, high = np.quantile(points, 0.01, axis=0), np.quantile(points, 0.99, axis=0)
    place = np.floor((points - low) / np.maximum(high - low, 1e-12) * side).clip(0, side - 1).astype(int)
    found = []
    for row in range(side):
        for column in range(side):
            inside = (place[:, 0] == column) & (place[:, 1] == side - 1 - row)  # rows go down, the second coordinate up
            members = np.flatnonzero(inside).tolist()
            if len(members) >= fewest:
                label, count = Counter(labels[member] for member in members).most_common(1)[0]
                mean = vectors[members].mean(0)
                found.append(Cell(row, column, len(members), mean, label, count / len(members)))
    return found
