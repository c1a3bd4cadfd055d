"""Gradient attacks within a budget. All are the one loop: its image is a picture with a bounded change."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from cnnvis_cli.engine.attacks.bound import Bound
from cnnvis_cli.engine.attacks.problem import Goal, Problem
from cnnvis_cli.engine.optim.loop import Loop, synthesize
from cnnvis_cli.engine.optim.optimizers import Update
from cnnvis_cli.engine.optim.parameterizations import Perturbed

Loss = Literal["cross-entropy", "score", "margin"]
LOSSES: dict[Loss, Callable[[Goal, Tensor], Tensor]] = {
    "cross-entropy": Goal.cross_entropy,
    "score": Goal.score,
    "margin": Goal.margin,
}


def pgd(
    problem: Problem,
    *,
    steps: int = 20,
    rate: float | None = None,
    momentum: float = 0.0,
    random_start: bool = True,
    restarts: int = 1,
    stop_early: bool = True,
    confidence: float = 0.0,
    loss: Loss = "cross-entropy",
    update: Update | None = None,
    seed: int = 0,
) -> Tensor:
    """Projected gradient ascent (Madry et al. 2018) from a random point of the budget's ball, `restarts` times over.

    `rate`: change of a value (linf) or length (l2) per step; default 2.5 epsilon / steps, as in the paper. `momentum` 1 is
    MI-FGSM's (Dong et al. 2018). `update`: default the sign of the gradient (linf) or the gradient over its length (l2).
    With `stop_early`, pictures leave the batch once the network gives the wrong class at least the probability `confidence`
    (0: once it is fooled). Returns (B, 3, H, W): for each picture the start that came furthest.
    """
    if rate is None:
        rate = 2.5 * min(problem.budget.epsilon, 1.0) / steps
    best = problem.base.clone()
    reached = torch.full((len(problem),), -math.inf)
    places = problem.everything
    for restart in range(restarts):
        base = problem.base_at(places)
        start = random_start_in(problem.budget, base, places, seed + restart * 1_000_003) if random_start else base
        loop = Loop(
            Perturbed(base, problem.budget.epsilon, problem.budget.norm, start),
            problem.value_gradient(LOSSES[loss], places),
            steps,
            update or ("sign" if problem.budget.norm == "linf" else "unit"),
            rate,
            momentum,
            done=problem.stop(places, confidence) if stop_early else None,
        )
        pictures = synthesize(loop, watch=problem.watch).pictures
        margin = problem.margin(pictures, places) if restarts > 1 else torch.zeros(len(places))
        better = margin > reached[places]
        best[places[better]] = pictures[better.to(pictures.device)]
        reached[places[better]] = margin[better]
        places = places[margin <= 0] if restarts > 1 else places
        if not len(places) or problem.watch.should_stop():
            break
    return best


def fgsm(problem: Problem, *, loss: Loss = "cross-entropy") -> Tensor:
    """The fast gradient sign method: one step to the budget's edge (Goodfellow et al. 2015)."""
    return pgd(problem, steps=1, rate=problem.budget.epsilon, random_start=False, loss=loss, stop_early=False)


def ascent(
    problem: Problem,
    *,
    steps: int = 200,
    rate: float = 0.25 / 255,
    update: Update = "normalized",
    stop_early: bool = True,
    confidence: float = 0.0,
) -> Tensor:
    """Plain ascent: from the picture, add a little of the class score's gradient until the network is fooled.

    `rate` is the mean change of a value per step (`update="normalized"`) or what the gradient is multiplied with
    (`"gradient"`). Bounded only by [0, 1] where the budget is infinite.
    """
    return pgd(
        problem,
        steps=steps,
        rate=rate,
        random_start=False,
        loss="score",
        update=update,
        stop_early=stop_early,
        confidence=confidence,
    )


def random_start_in(budget: Bound, base: Tensor, places: Tensor, seed: int) -> Tensor:
    """Pictures (B, 3, H, W) uniformly drawn from the ball; each depends on its place alone, not on the batch."""
    starts = []
    for place in places.tolist():
        generator = torch.Generator().manual_seed(seed + place)
        if budget.norm == "linf":
            change = (2 * torch.rand(base.shape[1:], generator=generator) - 1) * min(budget.epsilon, 1.0)
        else:
            change = torch.randn(base.shape[1:], generator=generator)
            radius = torch.rand((), generator=generator).item() ** (1 / change.numel())
            change = change / change.norm() * radius * budget.epsilon
        starts.append(change)
    return (base + torch.stack(starts).to(base)).clamp(0, 1)
