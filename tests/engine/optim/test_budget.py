"""A budget is kept whatever the machine does: the clock is the test's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cnnvis_cli.commands.shared.multiscale import Multiscale, ScalePlan, run_multiscale
from cnnvis_cli.config.load import build_config
from cnnvis_cli.config.style import StyleConfig
from cnnvis_cli.engine.optim.budget import FINISH
from cnnvis_cli.engine.optim.loop import Loop
from cnnvis_cli.engine.optim.parameterizations import Pixels
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.jobs.session import Session

PIXEL = 1e-5  # seconds per pixel and step at the pace of the start


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def ran(folder: Path, pace: Callable[[float], float], budget: float, size: int | None) -> tuple[float, Multiscale, Job]:
    """Seconds that a run took on a machine that is `pace(seconds gone)` times slower than at the start."""
    clock = Clock()
    config = build_config(StyleConfig, {"budget": budget, "size": size, "smallest": 64, "name": "x"})
    job = Job("style", config, folder, Session(torch.device("cpu"), quiet=True, clock=clock))

    def make_loop(plan: ScalePlan, side: int, number: int, before: Tensor | None) -> Loop:
        def evaluate(pictures: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
            clock.now += PIXEL * side * side * pace(clock.now - 100)
            return torch.zeros(1), torch.zeros_like(pictures)

        return Loop(Pixels(torch.zeros(1, 3, side, side)), evaluate, plan.steps)

    run = run_multiscale(job, config, make_loop, "loop", size=size, largest=512, aspect=1.0, tileable=False)
    return clock.now - 100, run, job


@pytest.mark.parametrize("factor", [1.0, 2.0, 6.0, 0.5])
@pytest.mark.parametrize("size", [256, None])
def test_a_budget_is_kept_on_a_machine_that_becomes_slower(tmp_path: Path, factor: float, size: int | None) -> None:
    took, run, job = ran(tmp_path, lambda gone: 1.0 if gone < 10 else factor, 40.0, size)
    step = PIXEL * run.plan.sizes[-1] ** 2 * factor
    assert 40 - (FINISH + 2) * step - 1 <= took + FINISH * step <= 40.001 or run.outcomes[-1].stopped == "steps"
    assert took + FINISH * step <= 40.001
    assert size is None or run.plan.sizes[-1] == size
    assert job.record.details["plan"]["steps"] == [outcome.steps for outcome in run.outcomes]
    assert all(outcome.steps >= 1 for outcome in run.outcomes)
    assert bool(job.record.warnings) == (factor > 1)


def test_a_size_that_was_not_asked_for_shrinks_where_the_machine_becomes_very_slow(tmp_path: Path) -> None:
    took, run, job = ran(tmp_path, lambda gone: 1.0 if gone < 10 else 12.0, 60.0, None)
    assert took <= 60
    assert run.plan.sizes[-1] < 512
    assert run.outcomes[-1].steps > 1
    assert "181 px instead of 256" in job.record.warnings[0]


def test_no_time_at_all_is_one_step_at_each_scale(tmp_path: Path) -> None:
    _, run, _ = ran(tmp_path, lambda gone: 1.0, 0.001, 256)
    assert [outcome.steps for outcome in run.outcomes] == [1] * len(run.plan.sizes)
