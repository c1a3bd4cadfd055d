"""The least of several budgets within which an attack succeeds: each picture is attacked with more only where less failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cnnvis_cli.engine.attacks.bound import Bound
from cnnvis_cli.engine.attacks.problem import Goal, Model, Problem
from cnnvis_cli.engine.attacks.quantize import How, Quantized, quantize
from cnnvis_cli.engine.optim.loop import Watch


@dataclass
class Found:
    """8-bit `pictures` (B, 3, H, W), and for each (B,) how it was rounded, whether the float picture `worked`, the `epsilon` it
    took, and the passes that all tries together cost."""

    pictures: Tensor
    how: list[How]
    worked: Tensor
    epsilon: Tensor
    queries: Tensor
    gradients: Tensor


def attacked(
    model: Model,
    pictures: Tensor,
    goal: Goal,
    bounds: Sequence[Bound],
    attack: Callable[[Problem], Tensor],
    *,
    confidence: float = 0.0,
    watch: Watch | None = None,
) -> Found:
    """Pictures (B, 3, H, W), 8-bit, attacked within the first of the rising `bounds`, within the next where that does not give
    the wrong class the probability `confidence`, and so on. Where none does, the first that fools at all counts, or the last.
    """
    count = len(pictures)
    found = Found(pictures.clone(), ["failed"] * count, *(torch.zeros(count, dtype=kind) for kind in _KINDS))
    fooled = torch.zeros(count, dtype=torch.bool)
    standing = torch.arange(count)
    for bound in bounds:
        problem = Problem(model, pictures[standing.to(pictures.device)], goal.at(standing), bound, watch=watch)
        quantized = quantize(problem, attack(problem))
        found.queries[standing] += problem.queries
        found.gradients[standing] += problem.gradients
        with torch.no_grad():
            sure = goal.at(standing).met(model(quantized.pictures), confidence).cpu()
        _keep(found, quantized, standing, sure | ~fooled[standing], bound)
        fooled[standing] |= quantized.fooled
        standing = standing[~sure]
        if not len(standing) or problem.watch.should_stop():
            break
    return found


_KINDS = (torch.bool, torch.float32, torch.long, torch.long)  # of worked, epsilon, queries, gradients


def _keep(found: Found, made: Quantized, places: Tensor, better: Tensor, bound: Bound) -> None:
    for row in better.nonzero().flatten().tolist():
        place = int(places[row])
        found.pictures[place], found.how[place] = made.pictures[row], made.how[row]
        found.worked[place], found.epsilon[place] = made.worked[row], bound.epsilon
