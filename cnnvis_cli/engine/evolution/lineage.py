"""Where elites came from: the line of ancestors of each, kept for as long as any living elite descends from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnnvis_cli.engine.evolution.archive import pack, unpack
from cnnvis_cli.engine.evolution.encoding import Genome

_FIELDS = ("identity", "first_parent", "second_parent", "generation", "target", "probability")


@dataclass(frozen=True)
class Individual:
    """One that was an elite once. `target`: the class it was surest of when it came in, with that `probability`.

    It takes after `first_parent`; the second one is -1 if it was mutated only, both are in the first generation.
    `genome` is None where memory was short.
    """

    identity: int
    first_parent: int
    second_parent: int
    generation: int
    target: int
    probability: float
    genome: Genome | None


class Lineage:
    """Ancestors of the living elites. Genomes beyond `budget` bytes are dropped, oldest first."""

    def __init__(self, budget: int = 32 * 2**20) -> None:
        self.budget = budget
        self.known: dict[int, Individual] = {}

    def add(self, individual: Individual) -> None:
        self.known[individual.identity] = individual

    def ancestors(self, identity: int) -> list[Individual]:
        """From the first known ancestor to this one, along first parents."""
        line = []
        while identity in self.known:
            line.append(self.known[identity])
            identity = line[-1].first_parent
        return line[::-1]

    def prune(self, living: Iterable[int]) -> None:
        """Forget all who are not on the way of a living elite, then keep to the budget."""
        kept: set[int] = set()
        for identity in living:
            while identity in self.known and identity not in kept:
                kept.add(identity)
                identity = self.known[identity].first_parent
        self.known = {identity: one for identity, one in self.known.items() if identity in kept}
        used = sum(one.genome.nbytes for one in self.known.values() if one.genome is not None)
        for identity, one in self.known.items():  # in the order in which they came
            if used <= self.budget:
                break
            if one.genome is not None:
                used -= one.genome.nbytes
                self.known[identity] = replace(one, genome=None)

    def state(self) -> dict[str, np.ndarray]:
        rows = list(self.known.values())
        columns = {name: np.array([getattr(one, name) for one in rows]) for name in _FIELDS}
        return columns | {f"genomes.{key}": value for key, value in pack([one.genome for one in rows]).items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        columns = [state[name].tolist() for name in _FIELDS]
        genomes = unpack(state, "genomes.")
        self.known = {row[0]: Individual(*row) for row in zip(*columns, genomes, strict=True)}
