"""APGD: projected gradient ascent that halves its steps when they no longer help (Croce and Hein 2020, section 3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.engine.attacks.ball import random_start_in
from cnnvis_cli.engine.attacks.bound import Bound
from cnnvis_cli.engine.attacks.problem import Goal, Problem
from cnnvis_cli.engine.attacks.stepping import Stepping
from cnnvis_cli.engine.optim.loop import synthesize
from cnnvis_cli.engine.optim.parameterizations import Perturbed, within

Value = Callable[[Goal, Tensor], Tensor]
# Of a step, the share that follows the gradient; the rest goes on as before.
_ONWARD = 0.75
# Windows between looks: the first, how much shorter each is than the one before, and the shortest, in shares of all steps.
_FIRST, _SHORTER, _SHORTEST = 0.22, 0.03, 0.06
# Of the steps of a window, so many must have raised the objective.
_RISES = 0.75


def apgd(problem: Problem, value: Value, *, steps: int = 100, seed: int = 0) -> Tensor:
    """Pictures (B, 3, H, W) after up to `steps` steps from a random start; those that fool the network leave the batch."""
    base, budget, places = problem.base, problem.budget, problem.everything
    start = random_start_in(budget, base, places, seed)
    image = Perturbed(base, budget.epsilon, budget.norm, start)
    rule = AdaptiveSteps(base, budget, steps)
    loop = rule.loop(image, problem.value_gradient(value, places), steps, problem.stop(places))
    pictures = synthesize(loop, watch=problem.watch).pictures
    fooled = problem.margin(pictures, places) > 0
    return torch.where(fooled.to(pictures.device).view(-1, 1, 1, 1), pictures, rule.best)


class AdaptiveSteps(Stepping):
    """The rule. `best` (B, 3, H, W): where the objective was largest."""

    def __init__(self, base: Tensor, budget: Bound, steps: int) -> None:
        count = len(base)
        self._base, self._budget, self._steps = base, budget, steps
        self.best, self._best_gradient, self._before = base.clone(), torch.zeros_like(base), base.clone()
        self._best_value = torch.full((count,), -torch.inf, device=base.device)
        self._last_value = self._best_value.clone()
        self._checked_value = self._best_value.clone()
        self._rate = torch.full((count,), 2 * min(budget.epsilon, 1.0), device=base.device)
        self._rises = torch.zeros(count, device=base.device)
        self._halved = torch.ones(count, dtype=torch.bool, device=base.device)
        self._window, self._since, self._made = max(1, int(_FIRST * steps)), 0, 0

    def step(self, index: Tensor, pictures: Tensor, values: Tensor, gradient: Tensor) -> Tensor:
        rows = index.to(self._base.device)
        self._note(rows, pictures, values, gradient)
        at, slope = pictures, gradient
        if self._made and self._since == self._window:
            back = self._look()[rows]
            at = torch.where(back.view(-1, 1, 1, 1), self.best[rows], at)
            slope = torch.where(back.view(-1, 1, 1, 1), self._best_gradient[rows], slope)
        onward = at - self._before[rows]
        self._before[rows] = at
        ahead = self._inside(rows, at + self._rate[rows].view(-1, 1, 1, 1) * self._direction(slope))
        if self._made:
            ahead = self._inside(rows, at + _ONWARD * (ahead - at) + (1 - _ONWARD) * onward)
        self._made, self._since = self._made + 1, self._since + 1
        return ahead - pictures

    def _note(self, rows: Tensor, pictures: Tensor, values: Tensor, gradient: Tensor) -> None:
        values = values.to(self._best_value)
        self._rises[rows] += (values > self._last_value[rows]).float() if self._made else 0.0
        self._last_value[rows] = values
        better = values > self._best_value[rows]
        chosen = rows[better]
        self._best_value[chosen] = values[better]
        self.best[chosen], self._best_gradient[chosen] = pictures[better], gradient[better]

    def _look(self) -> Tensor:
        """(B,) whose steps are halved, to begin again at the best place: too few of them rose, or they were not halved at the
        last look and nothing was gained since."""
        back = (self._rises <= _RISES * self._window) | (~self._halved & (self._checked_value >= self._best_value))
        self._halved, self._checked_value = back, self._best_value.clone()
        self._rate = torch.where(back, self._rate / 2, self._rate)
        self._rises.zero_()
        self._since = 0
        self._window = max(self._window - max(1, int(_SHORTER * self._steps)), max(1, int(_SHORTEST * self._steps)))
        return back

    def _direction(self, gradient: Tensor) -> Tensor:
        if self._budget.norm == "linf":
            return gradient.sign()
        return F.normalize(gradient.flatten(1), eps=1e-12).view_as(gradient)

    def _inside(self, rows: Tensor, pictures: Tensor) -> Tensor:
        base = self._base[rows]
        epsilon = torch.tensor(self._budget.epsilon, dtype=base.dtype, device=base.device).view(1, 1, 1, 1)
        return (base + within(pictures - base, epsilon, self._budget.norm)).clamp(0, 1)
