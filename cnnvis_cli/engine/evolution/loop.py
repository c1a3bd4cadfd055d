"""The loop: parents from the archive, children by variation, places by probability."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.evolution.archive import NOBODY, Archive
from cnnvis_cli.engine.evolution.black_box import BlackBox, probabilities_of
from cnnvis_cli.engine.evolution.encoding import Encoding, Genome
from cnnvis_cli.engine.evolution.lineage import Individual, Lineage


class Strategy(str, Enum):
    """`map_elites`: one archive, every child competes in every class (Mouret and Clune 2015; Nguyen et al. 2015).

    `evolution_strategy`: (mu + lambda) for each class on its own; a child competes only in the class of its parents.
    """

    MAP_ELITES = "map_elites"
    EVOLUTION_STRATEGY = "evolution_strategy"


@dataclass(frozen=True)
class Generation:
    """What one generation brought: the best probability of each class and how many places were won."""

    number: int
    best: np.ndarray
    wins: int

    @property
    def median(self) -> float:
        return float(np.median(self.best))


class Evolution:
    """Evolves one image for each of `targets`, indices among the `classes` that the evaluator gives probabilities of.

    `children` per generation; the first generation (number 0) is as many random ones. `elites` per class is mu of the
    evolution strategy and 1 for MAP-Elites. Classes that have reached the probability `goal` have no more children of their
    own while others have not, so that the queries go where they are needed (the paper draws from all classes alike: an
    infinite goal). After an exception in `step` (the evaluator's, for one) all is as before it.
    """

    def __init__(
        self,
        encoding: Encoding,
        evaluate: BlackBox,
        classes: int,
        targets: Sequence[int] | None = None,
        *,
        strategy: Strategy = Strategy.MAP_ELITES,
        children: int = 200,
        elites: int = 1,
        goal: float = math.inf,
        seed: int = 0,
        lineage: Lineage | None = None,
    ) -> None:
        self.targets = np.arange(classes) if targets is None else np.unique(np.asarray(targets, np.int64))
        if children < 1 or elites < 1:
            raise UserError("evolution needs at least 1 child per generation and 1 elite per class.")
        if not len(self.targets) or self.targets.min() < 0 or self.targets.max() >= classes:
            raise UserError(f"targets must be classes from 0 to {classes - 1}, and at least one.")
        if strategy is Strategy.MAP_ELITES and elites > 1:
            raise UserError("MAP-Elites keeps one elite per class; several need the evolution strategy.")
        self.encoding, self.evaluate, self.classes = encoding, evaluate, classes
        self.strategy, self.children, self.goal = strategy, children, goal
        self.archive = Archive(len(self.targets), encoding.size, elites)
        self.lineage = lineage or Lineage()
        self.rng = np.random.Generator(np.random.PCG64(seed))
        self.generation = -1
        self.born = 0
        self.history: list[np.ndarray] = []

    @property
    def done(self) -> bool:
        """Whether every class has reached the goal."""
        return bool((self.archive.best >= self.goal).all())

    def step(self) -> Generation:
        """One generation."""
        before = self.rng.bit_generator.state
        try:
            parents = self._parents() if self.generation >= 0 else np.full((self.children, 2), NOBODY)
            children = self._breed(parents)
            images = self.encoding.render(children)
            probabilities = probabilities_of(self.evaluate, images, self.classes)[:, self.targets]
        except BaseException:
            self.rng.bit_generator.state = before
            raise
        self.generation += 1
        wins = self._select(children, parents, images, probabilities)
        self.history.append(self.archive.best.astype(np.float32))
        return Generation(self.generation, self.archive.best.copy(), wins)

    def _parents(self) -> np.ndarray:
        """(children, 2) rows among `archive.filled()`: whom each child takes after, and the other one."""
        filled = self.archive.filled()
        behind = np.flatnonzero(self.archive.best[filled[:, 0]] < self.goal)
        behind = behind if len(behind) else np.arange(len(filled))
        if self.strategy is Strategy.MAP_ELITES:
            first = self.rng.choice(behind, self.children)
            second = self.rng.integers(len(filled), size=self.children)
        else:
            classes = np.unique(filled[behind, 0])
            islands = classes[(np.arange(self.children) + self.generation * self.children) % len(classes)]
            start = np.searchsorted(filled[:, 0], islands)
            stop = np.searchsorted(filled[:, 0], islands, side="right")
            first, second = self.rng.integers(start, stop), self.rng.integers(start, stop)
        return np.stack([first, second], 1)

    def _breed(self, parents: np.ndarray) -> list[Genome]:
        if self.generation < 0:
            return self.encoding.random(self.children, self.rng)
        elites = [self.archive.genomes[k][place] for k, place in self.archive.filled()]
        pairs = [(elites[a], elites[b]) for a, b in parents]
        return self.encoding.vary(pairs, self.generation, self.rng)

    def _select(self, children: list[Genome], parents: np.ndarray, images: np.ndarray, probabilities: np.ndarray) -> int:
        filled = self.archive.filled()
        names = np.array([self.archive.identities[k, place] for k, place in filled] + [NOBODY])  # NOBODY is row -1
        identities = self.born + np.arange(len(children))
        self.born += len(children)
        scores = probabilities
        if self.strategy is Strategy.EVOLUTION_STRATEGY and self.generation > 0:
            scores = np.full_like(probabilities, -1.0)
            rows, home = np.arange(len(children)), filled[parents[:, 0], 0]
            scores[rows, home] = probabilities[rows, home]
        winners = self.archive.offer(scores, images, children, identities)
        for child in sorted({child for _, _, child in winners}):
            first, second = names[parents[child]].tolist()
            surest = int(probabilities[child].argmax())
            probability = float(probabilities[child, surest])
            row = int(identities[child]), first, second, self.generation, int(self.targets[surest]), probability
            self.lineage.add(Individual(*row, children[child]))
        self.lineage.prune(self.archive.identities.reshape(-1).tolist())
        return len(winners)

    def state(self) -> dict[str, Any]:
        """All that the coming generations depend on, and their history: arrays, and one text `meta`.

        The arrays are those in use: write or copy them before the next step.
        """
        meta = {"generation": self.generation, "born": self.born, "rng": self.rng.bit_generator.state}
        arrays: dict[str, Any] = {"meta": json.dumps(meta), "targets": self.targets}
        arrays["history"] = np.array(self.history, np.float32)
        arrays |= {f"archive.{key}": value for key, value in self.archive.state().items()}
        return arrays | {f"lineage.{key}": value for key, value in self.lineage.state().items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken: the same seed of it all gives the same archive, bit for bit."""
        if not np.array_equal(state["targets"], self.targets):
            raise UserError("the saved state is of other target classes.")
        if state["archive.images"].shape != self.archive.images.shape:
            raise UserError("the saved state is of another image size or number of elites.")
        meta = json.loads(state["meta"])
        self.generation, self.born = meta["generation"], meta["born"]
        self.rng.bit_generator.state = meta["rng"]
        self.history = list(state["history"])
        for part, name in ((self.archive, "archive."), (self.lineage, "lineage.")):
            part.restore({key.removeprefix(name): value for key, value in state.items() if key.startswith(name)})
