"""How often a classifier is right, as the pictures are and under attack, with the error of the count."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cnnvis_cli.engine.attacks.ball import pgd
from cnnvis_cli.engine.attacks.bound import Bound, Norm, rounded
from cnnvis_cli.engine.attacks.problem import Goal, Problem
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.pixels import eight_bit


@dataclass(frozen=True)
class Accuracy:
    """`right` of `count` pictures."""

    right: int
    count: int

    @property
    def share(self) -> float:
        return self.right / max(1, self.count)

    @property
    def error(self) -> float:
        """The standard error of the share (binomial)."""
        return math.sqrt(self.share * (1 - self.share) / max(1, self.count))


@torch.no_grad()
def clean_accuracy(network: Network, pictures: Tensor, labels: Tensor) -> Accuracy:
    """For pictures (B, 3, H, W) in [0, 1] and classes (B,)."""
    answers = network(pictures.to(network.device)).argmax(1).cpu()
    return Accuracy(int((answers == labels.cpu()).sum()), len(labels))


def robust_accuracy(
    network: Network,
    pictures: Tensor,
    labels: Tensor,
    *,
    norm: Norm,
    epsilon: float,
    steps: int = 20,
    batch: int = 50,
    seed: int = 0,
) -> Accuracy:
    """Right on the 8-bit pictures and still right on what PGD makes of them within `epsilon`, as 8-bit pictures."""
    right, bound = 0, Bound(norm, epsilon)
    for first in range(0, len(pictures), batch):
        base = eight_bit(pictures[first : first + batch]).to(network.device)
        goal = Goal(labels[first : first + batch].to(network.device))
        problem = Problem(network, base, goal, bound)
        worst = rounded(base, pgd(problem, steps=steps, seed=seed + first), bound)
        with torch.no_grad():
            held = (goal.margin(network(base)) <= 0) & (goal.margin(network(worst)) <= 0)
        right += int(held.sum())
    return Accuracy(right, len(pictures))
