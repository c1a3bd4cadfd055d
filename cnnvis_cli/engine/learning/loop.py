"""THE loop over weights. Stylizers, decoders and classifiers are this loop with other modules and losses.

    while not stopped:  w <- w - rate(step) * direction(gradient of the sum of the losses at w);  average <- mean of the w

What learns (a module) and what is asked of it (named losses of a step) are given; the schedule, clipping, the mean of the
weights, divergence, stepping back, time and exact resumption are here. Besides `engine/optim/loop`, which changes pictures,
it is the only place where an optimizer takes a step.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cnnvis_cli.engine.errors import RunError

Stopped = Literal["steps", "diverged", "interrupted"]
# (step, how far of the whole in [0, 1)) to named losses (scalars); their sum is lowered.
Losses = Callable[[int, float], Mapping[str, Tensor]]
_WINDOW = 50  # steps whose mean loss is looked at
_TIMED = 8  # steps after which a budget of seconds is turned into a number of steps; the first is a warm-up
_PLANS = (0.25, 0.5, 0.75, 0.9)  # of the steps planned, after which the pace is looked at again
_RECENT = 5  # steps that tell how long the next one takes
_FAILURES = 3  # steps in a row that may be without an update
_EXPLODED = 5.0  # a mean loss so many times the first one is no learning any more


@dataclass(frozen=True)
class Schedule:
    """The rate over a run, as a factor: rises for `warm` steps, stays at 1 until the share `flat` of the run, and falls along
    half a cosine to `last` (Loshchilov and Hutter 2017)."""

    warm: int = 50
    flat: float = 0.5
    last: float = 0.0

    def factor(self, step: int, steps: int) -> float:
        rise = min(1.0, (step + 1) / max(1, self.warm))
        through = (step / max(1, steps) - self.flat) / max(1e-9, 1 - self.flat)
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, through))))
        return rise * (self.last + (1 - self.last) * fall)


@dataclass
class Learning:
    """One run of the loop, before it starts.

    `module`: its parameters that require a gradient learn, in place. `steps`: at most so many; with `budget` (seconds of the
    `clock`, all that happens between steps included) as many as fit, found out from the first steps, corrected on the way, and
    ended by the clock. `decay`: of weights, not of biases and scales.
    `clip`: largest length of the gradient (0: any). `momentum`: how much of the last steps' gradients is kept; less where two
    sides learn against each other. `average`: decay of the mean of the weights, which is the result.
    `judge`: (step, module) to whether the run is sound, every `judged` steps; where it says no, the weights step back to where
    they last were sound, and go on. It may change what the losses do from then on if it keeps that in `memory`, plain values
    that come back when a run goes on.
    `precision`: bfloat16 where the device is fast at it (autocast); None: float32.
    """

    module: nn.Module
    losses: Losses
    steps: int
    optimizer: Literal["adam", "sgd"] = "adam"
    rate: float = 3e-3
    decay: float = 0.0
    schedule: Schedule = field(default_factory=Schedule)
    clip: float = 0.0
    momentum: float = 0.9
    average: float = 0.99
    budget: float | None = None
    judge: Callable[[int, nn.Module], bool] | None = None
    judged: int = 0
    memory: dict[str, Any] = field(default_factory=dict)
    precision: torch.dtype | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    clock: Callable[[], float] = time.perf_counter

    def descent(self) -> torch.optim.Optimizer:
        learning = [p for p in self.module.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in learning if p.ndim > 1], "weight_decay": self.decay},
            {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        if self.optimizer == "sgd":
            return torch.optim.SGD(groups, lr=self.rate, momentum=self.momentum, nesterov=True)
        return torch.optim.Adam(groups, lr=self.rate, betas=(self.momentum, 0.999))


@dataclass
class Watch:
    """How the outside follows a run: `on_step(step, steps, losses)` after each, `should_stop()` before each; `keep(state)`
    after a step where `wants()` says that it is time to."""

    on_step: Callable[[int, int, Mapping[str, float]], None] = lambda step, steps, losses: None
    should_stop: Callable[[], bool] = lambda: False
    wants: Callable[[], bool] = lambda: False
    keep: Callable[[Learner], None] = lambda learner: None


@dataclass
class Learned:
    """`module`: the mean of the weights, in eval mode. `trace`: each loss at each step, nan where it was not asked for.
    `back`: steps at which the weights stepped back. `state` to go on from."""

    module: nn.Module
    steps: int
    stopped: Stopped
    trace: dict[str, list[float]]
    seconds: float
    back: list[int]
    state: dict[str, Any]


class Learner:
    """The loop while it runs. `state()` holds all that changes, so that a resumed run equals an uninterrupted one."""

    def __init__(self, learning: Learning, state: dict[str, Any] | None) -> None:
        self.learning = learning
        self.module = learning.module.to(learning.device).train()
        self.average = copy.deepcopy(self.module).requires_grad_(False)
        self.optimizer = learning.descent()
        self.trace: dict[str, list[float]] = {}
        self.totals: list[float] = []
        self.back: list[int] = []
        self.seconds = 0.0
        self.steps = learning.steps
        self.planned = 0  # how often a budget was turned into steps
        self.good: dict[str, Any] | None = None  # the mean of the weights, where it was last well
        self.sound: dict[str, Any] | None = None  # where the judge last said yes
        self.lowest = math.inf
        self.failed = 0  # steps in a row without an update
        self._mark = learning.clock()
        self._recent: list[float] = []  # how long the last steps took
        self._planned_at = (0, 0.0)  # steps and seconds when they were last looked at
        if state is not None:
            self._load(state)

    @property
    def step_number(self) -> int:
        return len(self.totals)

    def state(self) -> dict[str, Any]:
        return {
            **self._weights(),
            "trace": {name: list(values) for name, values in self.trace.items()},
            "totals": list(self.totals),
            "back": list(self.back),
            "seconds": self.seconds,
            "steps": self.steps,
            "planned": self.planned,
            "good": self.good,
            "sound": self.sound,
            "lowest": self.lowest,
            "failed": self.failed,
            "memory": copy.deepcopy(self.learning.memory),
        }

    def _weights(self) -> dict[str, Any]:
        parts: dict[str, Any] = {"module": self.module, "average": self.average, "optimizer": self.optimizer}
        return {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}

    def _restore(self, weights: Mapping[str, Any]) -> None:
        self.module.load_state_dict(weights["module"])
        self.average.load_state_dict(weights["average"])
        self.optimizer.load_state_dict(copy.deepcopy(weights["optimizer"]))

    def _load(self, state: dict[str, Any]) -> None:
        self._restore(state)
        for name in ("trace", "totals", "back", "seconds", "steps", "planned", "good", "sound", "lowest", "failed"):
            setattr(self, name, state[name])
        self.learning.memory.clear()
        self.learning.memory.update(state["memory"])

    def step(self) -> dict[str, float] | None:
        """One update, or none where a loss or its gradient is not a finite number; None where that goes on."""
        learning, number = self.learning, self.step_number
        factor = learning.schedule.factor(number, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = learning.rate * factor
        self.optimizer.zero_grad(set_to_none=True)
        casts = learning.precision is not None
        with torch.autocast(learning.device.type, learning.precision) if casts else nullcontext():
            losses = learning.losses(number, number / max(1, self.steps))
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        total.backward()
        length = nn.utils.clip_grad_norm_(
            [p for p in self.module.parameters() if p.requires_grad], learning.clip or math.inf, error_if_nonfinite=False
        )
        if torch.isfinite(total) and torch.isfinite(length):
            self.optimizer.step()
            self.failed = 0
        elif self.failed < _FAILURES:  # one picture without any variation can do that: the next batch has others
            self.failed += 1
        else:
            return None
        self._follow(number)
        values = {name: loss.item() for name, loss in losses.items()}
        for name in {**self.trace, **values}:
            trace = self.trace.setdefault(name, [math.nan] * number)
            value = values.get(name, math.nan)
            trace.append(value if math.isfinite(value) or name not in values else (trace or [math.inf])[-1])
        self.totals.append(total.item() if math.isfinite(total.item()) else (self.totals or [math.inf])[-1])
        return values

    @torch.no_grad()
    def _follow(self, number: int) -> None:
        decay = min(self.learning.average, (1 + number) / (10 + number))
        for mean, now in zip(self.average.state_dict().values(), self.module.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)

    def well(self) -> bool:
        """Whether the loss has not exploded; every so often the mean of the weights is kept for the case that it will."""
        count = self.step_number
        if count % _WINDOW:
            return True
        mean = sum(self.totals[-_WINDOW:]) / _WINDOW
        first = sum(self.totals[:_WINDOW]) / _WINDOW
        self.lowest = min(self.lowest, mean)
        if mean <= self.lowest + 0.2 * abs(self.lowest):
            self.good = copy.deepcopy(self.average.state_dict())
        return mean <= _EXPLODED * abs(first)

    def judge(self) -> None:
        """Ask the judge where it is time to, and step back where it says no."""
        learning = self.learning
        if learning.judge is None or not learning.judged or self.step_number % learning.judged:
            return
        if learning.judge(self.step_number, self.module):
            self.sound = self._weights()
        elif self.sound is not None:
            self._restore(self.sound)
            self.back.append(self.step_number)
        self.module.train()

    def plan(self) -> None:
        """Take the time. Turn the budget into a number of steps: soon, and again as the pace shows; end where it is spent."""
        budget, count, now = self.learning.budget, self.step_number, self.learning.clock()
        self._recent = [*self._recent, now - self._mark][-_RECENT:]
        self.seconds, self._mark = self.seconds + now - self._mark, now
        if budget is None:
            return
        looks = (_TIMED, *(share * self.steps for share in _PLANS))
        if self.planned < len(looks) and count >= looks[self.planned]:
            steps, seconds = self._planned_at
            left = int((budget - self.seconds) / ((self.seconds - seconds) / (count - steps)))
            self._planned_at = count, self.seconds
            self.steps = min(self.learning.steps, max(count + max(0, left), 1))
            self.planned += 1
        if self.seconds + sum(self._recent) / len(self._recent) > budget:
            self.steps = count

    def learned(self, stopped: Stopped) -> Learned:
        result = copy.deepcopy(self.average).eval()
        if stopped == "diverged":
            if self.good is None:
                raise RunError("the losses are not numbers, or explode, from the start. A smaller rate may help.")
            result.load_state_dict(self.good)
        return Learned(result, self.step_number, stopped, self.trace, self.seconds, self.back, self.state())


def learn(learning: Learning, *, state: dict[str, Any] | None = None, watch: Watch | None = None) -> Learned:
    """Run the loop to its end, from the start or from the `state` of an earlier, interrupted run of the same Learning.

    Bit for bit the same on one machine whether it was interrupted or not. Where a loss stops being a number or explodes, the
    mean of the weights from before is the result, and `stopped` is "diverged"; RunError if there is none yet.
    """
    learner, watch = Learner(learning, state), watch or Watch()
    stopped: Stopped = "steps"
    while learner.step_number < learner.steps:
        if watch.should_stop():
            stopped = "interrupted"
            break
        values = learner.step()
        if values is None or not learner.well():
            stopped = "diverged"
            break
        learner.judge()
        learner.plan()
        watch.on_step(learner.step_number, learner.steps, values)
        if watch.wants():
            watch.keep(learner)
    return learner.learned(stopped)
