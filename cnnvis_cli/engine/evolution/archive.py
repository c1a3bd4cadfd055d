"""The archive: for every class the elites found so far, as 8-bit images with their genomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnvis_cli.engine.evolution.encoding import Genome, Images

NOBODY = -1


class Archive:
    """`width` elites for each of `classes` classes, best first. MAP-Elites has width 1 (Mouret and Clune 2015).

    `scores` (classes, width) float64 probabilities, -1 where a place is free; `identities` (classes, width);
    `images` (classes, width, size, size, 3) uint8; `genomes[class][place]`.
    """

    def __init__(self, classes: int, size: int, width: int = 1) -> None:
        self.scores = np.full((classes, width), -1.0)
        self.identities = np.full((classes, width), NOBODY, np.int64)
        self.images = np.zeros((classes, width, size, size, 3), np.uint8)
        self.genomes: list[list[Genome | None]] = [[None] * width for _ in range(classes)]

    @property
    def best(self) -> np.ndarray:
        """(classes,) probability of each class's best elite."""
        return self.scores[:, 0]

    def filled(self) -> np.ndarray:
        """(N, 2) class and place of every elite there is."""
        return np.argwhere(self.identities != NOBODY)

    def offer(
        self, scores: np.ndarray, images: Images, genomes: Sequence[Genome], identities: np.ndarray
    ) -> list[tuple[int, int, int]]:
        """Let children (N) with probabilities (N, classes) take the places of elites whose probability they exceed.

        A child may win in any number of classes; -1 keeps it out of one. Ties leave the incumbent in place.
        Gives (class, place, child) of every child that came in.
        """
        width = self.scores.shape[1]
        contenders = np.concatenate([self.scores, scores.T], 1)
        leaders = np.argsort(-contenders, axis=1, kind="stable")[:, :width] if width > 1 else contenders.argmax(1)[:, None]
        winners = []
        for k in np.flatnonzero((leaders >= width).any(1)):
            old = self.images[k].copy(), self.genomes[k], self.identities[k].copy()
            self.scores[k] = contenders[k, leaders[k]]
            self.genomes[k] = [None] * width
            for place, leader in enumerate(leaders[k]):
                pictures, codes, names = old if leader < width else (images, genomes, identities)
                index = leader if leader < width else leader - width
                self.images[k, place], self.genomes[k][place] = pictures[index], codes[index]
                self.identities[k, place] = names[index]
                if leader >= width and scores[index, k] >= 0:
                    winners.append((int(k), place, int(index)))
        return winners

    def state(self) -> dict[str, np.ndarray]:
        """All of it as arrays, valid until the next `offer`: a large archive is not copied.

        The genomes of elites that stand in several places are written once.
        """
        ids, first = np.unique(self.identities.reshape(-1), return_index=True)
        flat = [genome for row in self.genomes for genome in row]
        kept = [flat[i] for i, name in zip(first, ids, strict=True) if name != NOBODY]
        packed = {f"genomes.{key}": value for key, value in pack(kept).items()}
        return {"scores": self.scores, "identities": self.identities, "images": self.images} | packed

    def restore(self, state: Mapping[str, Any]) -> None:
        self.scores, self.identities = state["scores"].copy(), state["identities"].copy()
        self.images = state["images"].copy()
        ids = np.unique(self.identities)
        genomes: dict[int, Genome | None] = dict(zip(ids[ids != NOBODY].tolist(), unpack(state, "genomes."), strict=True))
        self.genomes = [[genomes.get(name) for name in row] for row in self.identities.tolist()]


def pack(genomes: Sequence[Genome | None]) -> dict[str, np.ndarray]:
    """Genomes of one encoding, of any shapes, as flat data with its shapes; None as an array of no values."""
    present = [genome for genome in genomes if genome is not None]
    if not present:
        return {"data": np.zeros(0, np.uint8), "shapes": np.zeros((len(genomes), 1), np.int64)}
    shapes = np.zeros((len(genomes), present[0].ndim), np.int64)
    for row, genome in zip(shapes, genomes, strict=True):
        row[:] = 0 if genome is None else genome.shape
    return {"data": np.concatenate([genome.reshape(-1) for genome in present]), "shapes": shapes}


def unpack(state: Mapping[str, Any], prefix: str = "") -> list[Genome | None]:
    """What `pack` packed."""
    data, shapes = state[f"{prefix}data"], state[f"{prefix}shapes"]
    ends = np.cumsum(shapes.prod(1))
    parts = zip(shapes.tolist(), ends.tolist(), strict=True)
    return [data[end - int(np.prod(shape)) : end].reshape(shape).copy() if all(shape) else None for shape, end in parts]
