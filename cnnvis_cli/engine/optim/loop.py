"""THE gradient loop. Maximize, invert, dream, style, texture and fool are this loop with other objectives and images.

    while not stopped:  x <- project(x + rate * direction(gradient of the objective at x))

What is optimized (a `Parameterization`), what is asked for (a `ValueGradient`) and how to step are given; stopping, the trace,
averaging, interruption and exact resumption are here. It is the only place where an optimizer takes a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from cnnvis_cli.engine.errors import RunError
from cnnvis_cli.engine.optim.evaluate import ValueGradient
from cnnvis_cli.engine.optim.optimizers import Adam, Ascent, Optimizer, Update, resampled
from cnnvis_cli.engine.optim.parameterizations import Parameterization, load_parameters
from cnnvis_cli.engine.optim.rectifiers import PassingRectifiers

_FLAT = 0.02  # of the whole rise: less is none
_TRIALS = 6  # of a rate that is measured
Stopped = Literal["steps", "target", "plateau", "finished", "diverged", "interrupted", "budget"]
Gradient = Callable[[Tensor], Tensor]
AfterStep = Callable[[int, Tensor, Tensor], Tensor]


@dataclass
class Loop:
    """One run of the loop, before it starts.

    `gradient`: changes the gradient with respect to the pictures before it is used (centre bias, smoothing).
    `after_step`: (step, pictures, gradient) to pictures, for `Pixels` alone (blur, clipping).
    `target`: stop when every picture's value reaches it. `patience`: stop when the mean value over the last `patience` steps
    is above that over those before by less than a fiftieth of the whole rise. `done`: (pictures, values, index) to (B,) bool;
    such pictures are kept as they are.
    `average`: decay of the exponential mean of the pictures that is returned instead of the last ones (0: the last ones).
    `line_search`: L-BFGS looks for a good step along each direction (strong Wolfe), at the price of more evaluations.
    `rates`: factor on the rate for step i, if it is to change. `warm`: Adam goes on with the moments of the stage before,
    resampled to the new size (pixels only). `passing`: for so many steps gradients pass rectifiers that are silent.
    `enough`: asked before each step with the number of those done; True: the time is up.
    `rate`: if None, what makes the first step change pictures by `moves` on average; for steps that go along the gradient,
    whose length says nothing of how far is sensible.
    """

    image: Parameterization
    evaluate: ValueGradient
    steps: int
    update: Update = "adam"
    rate: float | None = 0.05
    momentum: float = 0.0
    generator: torch.Generator | None = None
    gradient: Gradient | None = None
    after_step: Sequence[AfterStep] = ()
    target: float | None = None
    patience: int | None = None
    done: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    average: float = 0.0
    rates: Callable[[int], float] | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    line_search: bool = False
    warm: bool = False
    passing: int = 0
    enough: Callable[[int], bool] | None = None
    moves: float = 0.004

    def optimizer(self) -> Optimizer:
        parameters = self.image.parameters()
        if self.rate is None:
            if self.update in ("adam", "lbfgs") or self.rates is not None:
                raise ValueError("only steps along the gradient, at a rate that stays, are measured")
            return Ascent(parameters, 1.0, self.update, self.momentum)
        if self.update == "adam":
            return Adam(parameters, self.rate, self.betas)
        if self.update == "lbfgs":
            search = "strong_wolfe" if self.line_search else None
            return torch.optim.LBFGS(
                parameters, self.rate, 1, history_size=20, tolerance_grad=0, tolerance_change=0, line_search_fn=search
            )
        return Ascent(parameters, self.rate, self.update, self.momentum)


@dataclass
class Outcome:
    """`pictures` (B, 3, H, W) in [0, 1]; `trace`: values (B,) per step; why it `stopped`; `state` to go on from."""

    pictures: Tensor
    trace: list[Tensor]
    steps: int
    stopped: Stopped
    state: dict[str, Any]

    @property
    def means(self) -> list[float]:
        """The mean objective of the batch at each step."""
        return [values.mean().item() for values in self.trace]


@dataclass
class Watch:
    """How the outside follows a run: `on_step(step, values, pictures)` after each, `should_stop()` before each."""

    on_step: Callable[[int, Tensor, Tensor], None] = lambda step, values, pictures: None
    should_stop: Callable[[], bool] = lambda: False


class _Run:
    """The loop while it runs. `state()` holds all that changes, so that a resumed run equals an uninterrupted one."""

    def __init__(self, loop: Loop, state: dict[str, Any] | None, before: dict[str, Any] | None = None) -> None:
        self.loop = loop
        self.optimizer = loop.optimizer()
        if loop.warm and loop.update == "adam" and before:
            self.optimizer.load_state_dict(resampled(before, loop.image.parameters()))
        with torch.no_grad():
            start = loop.image()
        self.trace: list[Tensor] = []
        self.finished = torch.zeros(len(start), dtype=torch.bool)
        self.kept = start.detach().clone()  # finished pictures as they were when they finished
        self.best: tuple[float, Tensor] | None = None
        self.mean: Tensor | None = None
        if state is not None:
            self._load(state)

    def _load(self, state: dict[str, Any]) -> None:
        load_parameters(self.loop.image, state["parameters"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.loop.generator is not None:
            self.loop.generator.set_state(state["generator"])
        self.trace = list(state["trace"])
        device = self.kept.device
        self.finished, self.kept = state["finished"], state["kept"].to(device)
        self.best = None if state["best"] is None else (state["best"][0], state["best"][1].to(device))
        self.mean = None if state["mean"] is None else state["mean"].to(device)

    def state(self) -> dict[str, Any]:
        generator = self.loop.generator
        return {
            "parameters": [parameter.detach().clone() for parameter in self.loop.image.parameters()],
            "optimizer": self.optimizer.state_dict(),
            "generator": None if generator is None else generator.get_state(),
            "trace": list(self.trace),
            "finished": self.finished,
            "kept": self.kept,
            "best": self.best,
            "mean": self.mean,
        }

    def _closure(self) -> Tensor:
        """ValueGradient the pictures that are not finished, and leave the gradient at the image's parameters."""
        self.optimizer.zero_grad()
        pictures = self.loop.image()
        self.before = pictures.detach().clone()
        index = (~self.finished).nonzero().flatten()
        active = index.to(pictures.device)
        whole = len(index) == len(pictures)
        passing = PassingRectifiers() if len(self.trace) < self.loop.passing else nullcontext()
        with passing:
            values, gradient = self.loop.evaluate(self.before if whole else self.before[active], index)
        self.values = torch.full((len(pictures),), math.nan) if not self.trace else self.trace[-1].clone()
        self.values[index] = values.float().cpu()
        gradient = gradient.to(self.before.dtype)
        self.slope = gradient if whole else torch.zeros_like(self.before).index_copy_(0, active, gradient)
        if self.loop.gradient is not None:
            self.slope = self.loop.gradient(self.slope)
        # The same as pictures.backward(-slope), which would import sympy for checks of shapes.
        (pictures * -self.slope).sum().backward()
        return -values.sum()

    def step(self) -> bool:
        """One update; False, and nothing kept of it, where the objective is not a finite number any more."""
        loop, number = self.loop, len(self.trace)
        if loop.rates is not None and loop.rate is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = loop.rate * loop.rates(number)
        before = (
            [parameter.detach().clone() for parameter in loop.image.parameters()] if loop.rate is None and not number else []
        )
        self.optimizer.step(self._closure)
        if before:
            self._measure_rate(before)
        if not (torch.isfinite(self.values).all() and torch.isfinite(self.slope.sum())):
            return False
        mean = self.values.mean().item()
        if self.best is None or mean > self.best[0]:
            self.best = mean, self.before
        if loop.done is not None:
            self._finish(loop.done)
        loop.image.project()
        if loop.after_step:
            pictures = loop.image().detach().clone()
            for change in loop.after_step:
                pictures = change(number, pictures, self.slope)
            loop.image.assign(pictures)  # type: ignore[attr-defined]
        if loop.average:
            with torch.no_grad():
                mean_now = loop.image().detach()
            previous = torch.zeros_like(mean_now) if self.mean is None else self.mean
            self.mean = previous.lerp(mean_now, 1 - loop.average)
        self.trace.append(self.values)
        return True

    @torch.no_grad()
    def _measure_rate(self, before: Sequence[Tensor]) -> None:
        """Scale the step that was just made from the parameters `before`, and all that follow, to the change asked for.

        What pictures make of parameters need not be linear, so the scale is found by a few trials.
        """
        made = [parameter.detach() - old for parameter, old in zip(self.loop.image.parameters(), before, strict=True)]
        rate = 1.0
        for _ in range(_TRIALS):
            moved = (self.loop.image() - self.before).abs().mean().item()
            if not 0 < moved < math.inf:
                break
            rate *= self.loop.moves / moved
            for parameter, old, step in zip(self.loop.image.parameters(), before, made, strict=True):
                parameter.copy_(old + rate * step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _finish(self, done: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        index = (~self.finished).nonzero().flatten()
        active = index.to(self.before.device)
        hit = done(self.before[active], self.values[index], index)
        self.kept[active[hit.to(active.device)]] = self.before[active[hit.to(active.device)]]
        self.finished = self.finished.index_fill(0, index[hit.cpu()], True)

    def stopped(self) -> Stopped | None:
        """Why the loop ends here, if it does."""
        loop, count = self.loop, len(self.trace)
        if bool(self.finished.all()):
            return "finished"
        if count and loop.target is not None and bool((self.trace[-1] >= loop.target).all()):
            return "target"
        if loop.patience and count >= 2 * loop.patience:
            means = torch.stack(self.trace[-2 * loop.patience :]).mean(1)
            earlier, later = means[: loop.patience].mean(), means[loop.patience :].mean()
            if later - earlier <= _FLAT * (later - self.trace[0].mean()).clamp_min(0):
                return "plateau"
        if count >= loop.steps:
            return "steps"
        return "budget" if loop.enough is not None and loop.enough(count) else None

    @torch.no_grad()
    def pictures(self) -> Tensor:
        """The pictures as they stand: finished ones as they finished, the others averaged if that was asked for."""
        current = self.loop.image().detach()
        if self.mean is not None:
            current = self.mean / (1 - self.loop.average ** len(self.trace))
        finished = self.finished.to(current.device).view(-1, 1, 1, 1)
        return torch.where(finished, self.kept, current).clamp(0, 1)


def synthesize(
    loop: Loop, *, state: dict[str, Any] | None = None, watch: Watch | None = None, before: dict[str, Any] | None = None
) -> Outcome:
    """Run the loop to its end, from the start or from the `state` of an earlier Outcome of the same loop.

    `before`: the optimizer's state of the stage before, for a loop that starts `warm`.

    Bit for bit the same on one machine whether it was interrupted or not. Where the objective stops being a number (L-BFGS
    can do that), the best pictures so far are returned and `stopped` is "diverged"; RunError if there is none yet.
    """
    run, watch = _Run(loop, state, before), watch or Watch()
    while (reason := run.stopped()) is None:
        if watch.should_stop():
            reason = "interrupted"
            break
        if not run.step():
            reason = "diverged"
            break
        watch.on_step(len(run.trace), run.values, run.before)
    if reason == "diverged":
        if run.best is None:
            raise RunError("the objective is not a number at the start. A smaller rate or float32 precision may help.")
        return Outcome(run.best[1].clamp(0, 1), run.trace, len(run.trace), reason, run.state())
    return Outcome(run.pictures(), run.trace, len(run.trace), reason, run.state())


Stage = Callable[["Tensor | None"], "Loop | None"]


def synthesize_stages(
    stages: Sequence[Stage], *, state: dict[str, Any] | None = None, watch: Watch | None = None
) -> list[Outcome]:
    """Loops one after the other (octaves, scales): each stage makes its loop from the pictures of the one before.
    One that makes none, and those after it, are left out.

    Returns the outcomes of the stages that were run or, when resumed, restored. The last one's `state` resumes the whole.
    """
    outcomes: list[Outcome] = [Outcome(**done) for done in state["done"]] if state else []
    inner = state["inner"] if state else None
    for stage in stages[len(outcomes) :]:
        if (loop := stage(outcomes[-1].pictures if outcomes else None)) is None:
            break
        before = outcomes[-1].state.get("optimizer") if outcomes else None
        outcome = synthesize(loop, state=inner, watch=watch, before=before)
        inner = None
        if outcome.stopped == "interrupted":
            done = [vars(o) | {"state": {"optimizer": o.state["optimizer"]} if o is outcomes[-1] else {}} for o in outcomes]
            outcome.state = {"done": done, "inner": outcome.state}
            return [*outcomes, outcome]
        outcomes.append(outcome)
    return outcomes
