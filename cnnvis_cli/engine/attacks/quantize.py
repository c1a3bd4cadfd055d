"""The 8-bit rule: what counts is the picture that is saved. Rounding undoes small changes, so they are rounded with care.

Changes are counted in levels (1/255). A change of 0.4 levels is lost when rounded to the nearest. The repair moves single
values by one level, those first that the gradient says matter most; where that does not help, the threshold from which a
fraction is rounded away from the original is lowered ("rounding outward").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from cnnvis_cli.engine.attacks.bound import TOLERANCE, Bound, rounded
from cnnvis_cli.engine.attacks.problem import Goal, Problem
from cnnvis_cli.engine.pixels import LEVELS

How = Literal["rounded", "outward", "lattice", "failed"]
# Fractions of a level from which a change is rounded away from the original, tried one after the other.
OUTWARD = (0.4, 0.3, 0.2, 0.1, 0.03)


@dataclass(frozen=True)
class Quantized:
    """8-bit `pictures` (B, 3, H, W), whether each fools the network (B,), how that came about, and whether the float picture
    that it was made from did (B,)."""

    pictures: Tensor
    fooled: Tensor
    how: list[How]
    worked: Tensor


def quantize(problem: Problem, pictures: Tensor, *, searches: int = 10) -> Quantized:
    """The 8-bit pictures to save for float `pictures` (B, 3, H, W): rounded, repaired where that undid a success.

    `problem.base` must be 8-bit. Pictures that did not fool the network as floats are rounded and judged, not repaired.
    """
    result = rounded(problem.base, pictures, problem.budget)
    places = problem.everything
    fooled = problem.margin(result, places) > 0
    how: list[How] = ["rounded" if hit else "failed" for hit in fooled]
    worked = problem.margin(pictures, places) > 0

    def attempt(name: How, repair: Callable[[Tensor, Tensor], Tensor]) -> None:
        """`repair`: places and the float pictures there to 8-bit pictures."""
        places = (worked & ~fooled).nonzero().flatten()
        if not len(places):
            return
        tried = repair(places, pictures[places.to(pictures.device)])
        hit = problem.margin(tried, places) > 0
        result[places[hit].to(result.device)] = tried[hit.to(tried.device)]
        fooled[places[hit]] = True
        for place in places[hit].tolist():
            how[place] = name

    attempt("lattice", partial(lattice_search, problem, rounds=searches))
    for threshold in OUTWARD:
        attempt("outward", partial(_outward, problem, threshold))
    return Quantized(result, fooled, how, worked)


def _outward(problem: Problem, threshold: float, places: Tensor, pictures: Tensor) -> Tensor:
    return rounded(problem.base_at(places), pictures, problem.budget, threshold)


def lattice_search(problem: Problem, places: Tensor, pictures: Tensor, rounds: int) -> Tensor:
    """8-bit pictures near float `pictures`: rounded, then single values moved by one level along the gradient, as few as the
    linear model says are needed. In linf no value changes by more levels than the float change had, rounded up."""
    base, budget = problem.base_at(places), problem.budget
    bounds = torch.full((len(places),), float(LEVELS), device=base.device)
    if budget.norm == "linf":
        largest = (budget.size(pictures - base) * LEVELS - TOLERANCE).ceil()
        bounds = largest.clamp_max(math.floor(min(budget.epsilon, 1.0) * LEVELS + TOLERANCE))
    levels = rounded(base, pictures, budget, 0.5 if budget.norm == "linf" else 0.75)  # inward in l2, to leave room for moves
    evaluate = problem.value_gradient(Goal.margin, places)
    for attempt in range(rounds):
        values, gradient = evaluate(levels, torch.arange(len(places)))
        missing = values <= 0
        if not bool(missing.any()):
            break
        for row in missing.nonzero().flatten().tolist():
            needed = (1.2 + 0.2 * attempt) * (0.01 - values[row].item()) * LEVELS
            levels[row] = _moved(base[row], levels[row], gradient[row], needed, bounds[row], budget)
    return levels


def _moved(base: Tensor, picture: Tensor, gradient: Tensor, needed: float, bound: Tensor, budget: Bound) -> Tensor:
    """One picture (3, H, W) with the values of the largest gradients moved by a level each, until their gains add up."""
    origin, levels, direction = (base * LEVELS).round(), (picture * LEVELS).round(), gradient.sign()
    after = levels + direction
    allowed = (after >= 0) & (after <= LEVELS) & ((after - origin).abs() <= bound)
    gains, order = torch.where(allowed, gradient.abs(), 0).flatten().sort(descending=True)
    taken = (gains.cumsum(0) - gains < needed) & (gains > 0)
    if budget.norm == "l2" and budget.epsilon < math.inf:
        cost = ((after - origin).square() - (levels - origin).square()).flatten()[order]
        room = (budget.epsilon * LEVELS) ** 2 - (levels - origin).square().sum()
        taken &= cost.cumsum(0) <= room
    flat, step = levels.flatten(), direction.flatten()
    flat[order[taken]] += step[order[taken]]
    return flat.view_as(picture) / LEVELS
