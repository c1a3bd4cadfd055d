"""How far a picture may be changed, and what is left of a change in a file of 8 bits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.pixels import LEVELS

Norm = Literal["linf", "l2"]
TOLERANCE = 1e-3  # of a level, for float32


@dataclass(frozen=True)
class Bound:
    """The largest change: `linf` of one value, `l2` Euclidean length over the picture, for values in [0, 1]."""

    norm: Norm = "linf"
    epsilon: float = math.inf

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise UserError(f"no norm '{self.norm}': linf and l2 are the norms there are.")
        if not self.epsilon > 0 or (self.norm == "linf" and 1 < self.epsilon < math.inf):
            raise UserError(f"epsilon {self.epsilon:g} is no budget: give a number above 0 (and up to 1 for linf).")

    def size(self, change: Tensor) -> Tensor:
        """(B,) length of changes (B, 3, H, W) in this norm."""
        flat = change.flatten(1)
        return flat.abs().amax(1) if self.norm == "linf" else flat.norm(dim=1)


def rounded(base: Tensor, pictures: Tensor, budget: Bound, threshold: float = 0.5) -> Tensor:
    """`pictures` (B, 3, H, W) as 8-bit pictures within the budget around 8-bit `base`.

    Fractions of a level from `threshold` on are rounded away from the base, others towards it; further towards it where the
    budget asks for it.
    """
    origin = (base * LEVELS).round()
    change = pictures * LEVELS - origin

    def moved(at: Tensor | float) -> Tensor:
        steps = (change.abs() + (1 - at) + TOLERANCE).floor()
        if budget.norm == "linf":
            steps = steps.clamp_max(math.floor(min(budget.epsilon, 1.0) * LEVELS + TOLERANCE))
        return (origin + steps * change.sign()).clamp(0, LEVELS)

    if budget.norm == "linf" or budget.epsilon == math.inf:
        return moved(threshold) / LEVELS
    low = torch.full((len(base), 1, 1, 1), threshold, device=base.device)
    if bool((budget.size((moved(low) - origin) / LEVELS) <= budget.epsilon).all()):
        return moved(low) / LEVELS
    inward, outward = torch.ones_like(low), low
    for _ in range(12):  # the least inward threshold that keeps the length
        middle = (inward + outward) / 2
        fits = (budget.size((moved(middle) - origin) / LEVELS) <= budget.epsilon).view(-1, 1, 1, 1)
        inward, outward = torch.where(fits, middle, inward), torch.where(fits, outward, middle)
    return moved(inward) / LEVELS
