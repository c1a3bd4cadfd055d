"""FAB, the fast adaptive boundary attack: the least change, along linear models of a class boundary (Croce and Hein 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from cnnvis_cli.engine.attacks.bound import Bound
from cnnvis_cli.engine.attacks.problem import Goal, Problem
from cnnvis_cli.engine.attacks.stepping import Stepping
from cnnvis_cli.engine.optim.loop import synthesize
from cnnvis_cli.engine.optim.parameterizations import Pixels

# The paper's eta (how far beyond the boundary), beta (of a change, what is kept after a success) and largest alpha.
_BEYOND, _KEPT, _MOST = 1.05, 0.9, 0.1
_HALVINGS = 40


def fab(problem: Problem, *, steps: int = 100) -> Tensor:
    """Pictures (B, 3, H, W), the targeted version: towards the boundary with the classes that the goal aims at, until a change
    within the budget fools the network. What found none comes back as it last stood."""
    base, places, budget = problem.base, problem.everything, problem.budget
    fooled = problem.stop(places)

    def done(pictures: Tensor, values: Tensor, index: Tensor) -> Tensor:
        near = budget.size(pictures - base[index.to(base.device)]) <= budget.epsilon * (1 + 1e-5)
        return fooled(pictures, values, index) & near.cpu()

    rule = Boundary(problem)
    loop = rule.loop(Pixels(base), problem.value_gradient(Goal.boundary, places), steps, done)
    return synthesize(loop, watch=problem.watch).pictures


class Boundary(Stepping):
    """The rule: a mean of the nearest points on the linear boundary to where a picture stands and to where it came from."""

    def __init__(self, problem: Problem) -> None:
        self._problem, self._base, self._norm = problem, problem.base, problem.budget

    def step(self, index: Tensor, pictures: Tensor, values: Tensor, gradient: Tensor) -> Tensor:
        base = self._base[index.to(self._base.device)]
        gap = values.to(base)
        here = to_plane(pictures, gradient, gap, self._norm)
        origin_gap = gap + (gradient * (base - pictures)).flatten(1).sum(1)
        origin = to_plane(base, gradient, origin_gap, self._norm)
        near, far = self._norm.size(here), self._norm.size(origin)
        share = (near / (near + far).clamp_min(1e-12)).clamp_max(_MOST).view(-1, 1, 1, 1)
        ahead = (pictures + _BEYOND * here) * (1 - share) + (base + _BEYOND * origin) * share
        # Where the network is fooled already, though too far away: back towards the picture first.
        crossed = (self._problem.last_margin(self._problem.everything[index]) > 0).to(base.device).view(-1, 1, 1, 1)
        return torch.where(crossed, base + _KEPT * (pictures - base), ahead.clamp(0, 1)) - pictures


def to_plane(pictures: Tensor, slope: Tensor, gap: Tensor, bound: Bound) -> Tensor:
    """The least change (B, 3, H, W), in the bound's norm, to where gap + slope . change = 0, of pictures that stay in [0, 1].

    Along the slope, each value no further than to 0 or 1; how far is found by halving. As far as it goes where the plane
    cannot be reached.
    """
    towards = -gap.sign().view(-1, 1, 1, 1) * slope
    room = torch.where(towards > 0, 1 - pictures, pictures)
    steep = towards.abs()
    speed = steep if bound.norm == "l2" else (steep > 0).to(steep)
    needed = gap.abs()

    def change(rate: Tensor) -> Tensor:
        return torch.minimum(rate.view(-1, 1, 1, 1) * speed, room)

    def gain(rate: Tensor) -> Tensor:
        return (steep * change(rate)).flatten(1).sum(1)

    high = needed / (steep * speed).flatten(1).sum(1).clamp_min(1e-20)  # enough, were there no 0 and 1
    for _ in range(_HALVINGS):
        short = gain(high) < needed
        if not bool(short.any()):
            break
        high = torch.where(short, 2 * high, high)
    low = torch.zeros_like(high)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        enough = gain(middle) >= needed
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return towards.sign() * change(high)
