"""One change for a whole set of pictures that fools the network on most of them (Moosavi-Dezfooli et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from cnnvis_cli.engine.attacks.bound import rounded
from cnnvis_cli.engine.attacks.problem import Goal, Problem
from cnnvis_cli.engine.optim.loop import Loop, synthesize
from cnnvis_cli.engine.optim.parameterizations import Shared

# Pictures further over the boundary than this (in logits) count no more, so that the others do.
_ENOUGH = 3.0


def universal(problem: Problem, *, steps: int = 50, rate: float | None = None, batch: int = 16) -> tuple[Tensor, Tensor]:
    """The common change (3, H, W) within the budget, in whole levels of 1/255, and the pictures (B, 3, H, W) with it.

    Sign ascent on the mean of the clipped margins over the whole set (Shafahi et al. 2020 clip the cross-entropy), not the
    original's DeepFool over one picture after the other: fewer passes, and it knows l2 as well.
    `rate` as for PGD; default 5 epsilon / steps, since a common direction changes its mind more often.
    """

    def value(goal: Goal, logits: Tensor) -> Tensor:
        return goal.margin(logits).clamp_max(_ENOUGH)

    rate = 5 * min(problem.budget.epsilon, 1.0) / steps if rate is None else rate
    image = Shared(problem.base, problem.budget.epsilon, problem.budget.norm)
    update = "sign" if problem.budget.norm == "linf" else "unit"
    loop = Loop(image, problem.value_gradient(value, batch=batch), steps, update, rate)  # type: ignore[arg-type]
    synthesize(loop, watch=problem.watch)
    grey = torch.full_like(image.change, 128 / 255).detach()  # the change is rounded once for all, not with each picture
    change = rounded(grey, grey + image.change.detach(), problem.budget) - grey
    return change[0], (problem.base + change).clamp(0, 1)
