"""Attacks that look for the smallest change that fools: DeepFool, Carlini and Wagner, L-BFGS."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cnnvis_cli.engine.attacks.problem import Goal, Problem
from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.optim.evaluate import ValueGradient
from cnnvis_cli.engine.optim.loop import Loop, synthesize
from cnnvis_cli.engine.optim.parameterizations import Box, Parameterization, Pixels

Value = Callable[[Goal, Tensor], Tensor]


def deepfool(problem: Problem, *, steps: int = 50, candidates: int = 10, overshoot: float = 0.02) -> Tensor:
    """DeepFool (Moosavi-Dezfooli et al. 2016): step to the nearest class boundary of the linearized network, until crossed.

    Only the `candidates` classes of the highest scores are looked at. The norm is that of the budget; its size is no bound.
    As the authors' code: boundaries are found from x0 plus the sum of the bare steps, looked at 1 + `overshoot` times it.
    """
    if problem.goal.targets is not None:
        raise UserError("DeepFool goes to the nearest other class: it takes no target. Use carlini-wagner or lbfgs.")
    base, places = problem.base, problem.everything
    change, result = torch.zeros_like(base), base.clone()
    order = problem.ask(base, places).topk(min(candidates, _classes(problem)), dim=1).indices
    labels = problem.goal.labels
    for step in range(steps):
        rows = places.to(base.device)
        distances, directions, crossed = _boundaries(problem, result[rows], places, order[rows], labels[rows])
        places = places[~crossed.cpu()]
        if not len(places) or problem.watch.should_stop():
            break
        problem.watch.on_step(step + 1, distances.amin(1), result)
        rows = places.to(base.device)
        nearest = distances[~crossed].argmin(1)
        picked = torch.arange(len(places), device=base.device)
        change[rows] += directions[~crossed][picked, nearest]
        result[rows] = (base[rows] + (1 + overshoot) * change[rows]).clamp(0, 1)
    return result


def _classes(problem: Problem) -> int:
    with torch.no_grad():
        return problem.model(problem.base[:1]).shape[1]


def _boundaries(
    problem: Problem, pictures: Tensor, places: Tensor, order: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Distances (B, K) to the boundaries with classes `order` (B, K), the steps (B, K, 3, H, W) there, and which crossed."""
    problem.queries[places] += 1
    rows = torch.arange(len(pictures), device=pictures.device)
    distances, directions = [], []
    with torch.enable_grad():
        leaf = pictures.detach().requires_grad_()
        logits = problem.model(leaf)
        own = logits[rows, labels]
        for k in range(order.shape[1]):
            gap = logits[rows, order[:, k]] - own
            (slope,) = torch.autograd.grad(gap.sum(), leaf, retain_graph=True)
            problem.gradients[places] += 1
            distance, direction = _nearest_point(gap.detach(), slope, problem.budget.norm)
            distances.append(torch.where(order[:, k] == labels, torch.inf, distance))
            directions.append(direction)
    crossed = problem.goal.at(places).met(logits.detach())
    return torch.stack(distances, 1), torch.stack(directions, 1), crossed


def _nearest_point(gap: Tensor, slope: Tensor, norm: str) -> tuple[Tensor, Tensor]:
    """Distance (B,) and step (B, 3, H, W) from here to where gap + slope . step = 0, in the l2 or linf norm.

    A little further (1e-4), as foolbox does, so that a boundary met exactly is crossed.
    """
    flat = slope.flatten(1)
    length = (flat.norm(dim=1) if norm == "l2" else flat.abs().sum(1)).clamp_min(1e-12)
    distance = gap.abs() / length
    unit = slope / length.view(-1, 1, 1, 1) if norm == "l2" else slope.sign()
    return distance, (distance + 1e-4).view(-1, 1, 1, 1) * unit


def carlini_wagner(
    problem: Problem, *, steps: int = 100, rate: float = 0.01, searches: int = 6, constant: float = 0.1, kappa: float = 0.0
) -> Tensor:
    """The smallest change in l2 that fools (Carlini and Wagner 2017): minimize |d|^2 + c max(kappa - margin, 0).

    The picture is (tanh(w) + 1) / 2 with Adam on w; c is searched for each picture, `searches` times, from `constant`.
    Pictures whose loss stands still leave early.
    """

    def value(goal: Goal, logits: Tensor) -> Tensor:
        return (goal.margin(logits) - kappa).clamp_max(0)

    def loop(start: Tensor, evaluate: ValueGradient, done: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Loop:
        return Loop(Box(start), evaluate, steps, "adam", rate, done=done)

    return _least_change(problem, problem.everything, value, loop, searches, constant, steps, kappa)


def lbfgs(problem: Problem, *, steps: int = 30, searches: int = 6, constant: float = 0.1) -> Tensor:
    """Box-constrained L-BFGS (Szegedy et al. 2014): minimize |d|^2 - c log p(goal), with the largest 1 / c that still fools.

    Pictures are taken one by one, since L-BFGS couples what it is given. The box is kept by clamping after each step.
    """

    def loop(start: Tensor, evaluate: ValueGradient, done: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Loop:
        return Loop(Pixels(start), evaluate, steps, "lbfgs", 1.0, done=done, line_search=True)

    one_by_one = [
        _least_change(problem, place, Goal.log_probability, loop, searches, constant, steps)
        for place in problem.everything.split(1)
    ]
    return torch.cat(one_by_one)


MakeLoop = Callable[[Tensor, ValueGradient, Callable[[Tensor, Tensor, Tensor], Tensor]], Loop]


def _least_change(
    problem: Problem,
    places: Tensor,
    value: Value,
    loop: MakeLoop,
    searches: int,
    constant: float,
    steps: int,
    margin: float = 0.0,
) -> Tensor:
    """Minimize |d|^2 - c value for the smallest c that fools, searched by tens and then by halves (Carlini and Wagner 2017).

    Returns the pictures of least |d| that fooled, by `margin` logits, on the way; the last ones where none did.
    """
    base = problem.base_at(places)
    closest = _Closest(problem, places, margin)
    inner = problem.value_gradient(value, places)
    weights = torch.full((len(places),), constant, device=base.device)
    low, high = torch.zeros_like(weights), torch.full_like(weights, torch.inf)
    image: Parameterization | None = None
    for _ in range(searches):
        closest.restart(patience=max(1, steps // 10))

        def evaluate(pictures: Tensor, index: Tensor, weights: Tensor = weights) -> tuple[Tensor, Tensor]:
            values, slope = inner(pictures, index)
            rows = index.to(base.device)
            change = pictures - base[rows]
            closest.see(pictures, change, index)
            total = weights[rows] * values - change.flatten(1).square().sum(1)
            return total, weights[rows].view(-1, 1, 1, 1) * slope - 2 * change

        run = loop(base, evaluate, closest.stalled)
        image = run.image
        synthesize(run, watch=problem.watch)
        if problem.watch.should_stop():
            break
        high = torch.where(closest.found, weights, high)
        low = torch.where(closest.found, low, weights)
        weights = torch.where(high.isinf(), weights * 10, (low + high) / 2)
    with torch.no_grad():
        last = image().detach() if image is not None else base
    return torch.where(closest.length.isinf().view(-1, 1, 1, 1), last, closest.pictures)


class _Closest:
    """Keeps, over all searches, the fooling picture of least change, and sees when a search stands still."""

    def __init__(self, problem: Problem, places: Tensor, margin: float) -> None:
        self._problem, self._places, self._margin = problem, places, margin
        self.pictures = problem.base_at(places).clone()
        self.length = torch.full((len(places),), torch.inf, device=self.pictures.device)
        self.found = torch.zeros(len(places), dtype=torch.bool, device=self.pictures.device)

    def restart(self, patience: int) -> None:
        self.found = torch.zeros_like(self.found)
        self._patience = patience
        self._seen = 0
        self._best = torch.full((len(self._places),), -torch.inf)
        self._before = self._best.clone()

    def see(self, pictures: Tensor, change: Tensor, index: Tensor) -> None:
        rows = index.to(self.length.device)
        inside = (pictures.amin((1, 2, 3)) >= 0) & (pictures.amax((1, 2, 3)) <= 1)  # a line search may look outside
        hit = (self._problem.last_margin(self._places[index]) > self._margin) & inside
        length = change.flatten(1).norm(dim=1)
        closer = hit & (length < self.length[rows])
        self.found[rows] |= hit
        self.pictures[rows[closer]], self.length[rows[closer]] = pictures[closer], length[closer]

    def stalled(self, pictures: Tensor, values: Tensor, index: Tensor) -> Tensor:
        """For the loop's `done`: pictures whose least loss of the last steps is less than 1 in 10,000 below the one before
        (CW's code compares the loss of the whole batch, every tenth of the steps)."""
        self._best[index] = torch.maximum(self._best[index], values.float().cpu())
        self._seen += 1
        if self._seen % self._patience:
            return torch.zeros(len(index), dtype=torch.bool)
        still = -self._best[index] > -0.9999 * self._before[index]
        self._before[index] = self._best[index]
        return still & (self._seen > 5 * self._patience)  # Adam's first steps overshoot, and the loss rises before it falls
