"""The loop over weights: resumption to the bit, divergence, stepping back, the mean of the weights, budgets."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnvis_cli.engine.errors import RunError
from cnnvis_cli.engine.learning.loop import Learner, Learning, Schedule, Watch, learn
from cnnvis_cli.engine.learning.randomness import Shuffled, drawn

STEPS = 120


def module() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
        )


def learning(steps: int = STEPS, **more: object) -> Learning:
    """Light from dark, from pictures drawn by step."""
    net = module()

    def losses(step: int, progress: float) -> dict[str, Tensor]:
        generator = drawn(1, step)
        labels = torch.randint(0, 2, (8,), generator=generator)
        pictures = torch.rand(8, 3, 8, 8, generator=generator) * 0.4 + 0.3 * labels.view(-1, 1, 1, 1)
        return {"cross_entropy": F.cross_entropy(net(pictures), labels)}

    return Learning(net, losses, steps, **more)  # type: ignore[arg-type]


def same(left: nn.Module, right: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left.state_dict().values(), right.state_dict().values(), strict=True))


@pytest.mark.parametrize("at", [1, 49, 73])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path: Path, at: int, optimizer: str) -> None:
    def made() -> Learning:
        memory: dict[str, int] = {}

        def judge(step: int, net: nn.Module) -> bool:
            memory[str(step)] = step
            return step != 60  # so that the weights step back once

        return learning(optimizer=optimizer, judge=judge, judged=20, memory=memory, clip=1.0)

    whole = learn(made())
    asked = iter(range(1000))
    first = learn(made(), watch=Watch(should_stop=lambda: next(asked) == at))
    assert (first.stopped, first.steps) == ("interrupted", at)
    torch.save(first.state, tmp_path / "state")
    rest = learn(made(), state=torch.load(tmp_path / "state", weights_only=True))
    assert rest.steps == STEPS
    assert rest.back == whole.back == [60]
    assert rest.trace == whole.trace
    assert same(rest.module, whole.module)


def test_it_learns_and_the_mean_of_the_weights_is_the_result() -> None:
    run = learn(learning())
    losses = run.trace["cross_entropy"]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    last = {key: value for key, value in run.state["module"].items() if value.is_floating_point()}
    assert any(not torch.equal(value, run.module.state_dict()[key]) for key, value in last.items())
    assert not run.module.training


def test_a_loss_that_is_no_number_ends_the_run_with_the_weights_from_before() -> None:
    plan = learning()
    plain = plan.losses

    def losses(step: int, progress: float) -> dict[str, Tensor]:
        found = plain(step, progress)["cross_entropy"]
        return {"cross_entropy": found * (torch.nan if step >= 70 else 1)}

    plan.losses = losses
    run = learn(plan)
    assert (run.stopped, run.steps) == ("diverged", 73)  # three steps may be without an update, the fourth ends it
    assert same(run.module, learn(learning(50, schedule=Schedule(50, 0.99))).module)  # where the loss was last looked at


def test_one_bad_batch_does_no_harm() -> None:
    plan, other = learning(), learning()
    plain, skipped = plan.losses, other.losses
    plan.losses = lambda step, progress: {"x": plain(step, progress)["cross_entropy"] * (torch.nan if step == 30 else 1)}
    other.losses = lambda step, progress: {"x": skipped(step, progress)["cross_entropy"] * (torch.inf if step == 30 else 1)}
    run = learn(plan)
    assert run.stopped == "steps"
    assert all(torch.isfinite(value).all() for value in run.module.state_dict().values())
    assert run.trace["x"][30] == run.trace["x"][29]
    assert same(run.module, learn(other).module)


def test_a_loss_that_is_no_number_at_the_start_is_an_error() -> None:
    plan = learning()
    plan.losses = lambda step, progress: {"loss": next(plan.module.parameters()).sum() * torch.nan}
    with pytest.raises(RunError, match="smaller rate"):
        learn(plan)


def test_an_exploding_loss_is_noticed() -> None:
    plan = learning(400)
    plain = plan.losses
    plan.losses = lambda step, progress: {"loss": plain(step, progress)["cross_entropy"] * (1 if step < 60 else 1e3)}
    run = learn(plan)
    assert run.stopped == "diverged"
    assert run.steps == 100


def test_the_schedule_rises_stays_and_falls() -> None:
    schedule = Schedule(warm=10, flat=0.5)
    factors = [schedule.factor(step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9:51] == pytest.approx([1.0] * 42)
    assert all(after < before for before, after in pairwise(factors[51:]))
    assert factors[-1] < 0.01


def test_weights_that_do_not_learn_stay() -> None:
    plan = learning(20)
    frozen = next(plan.module.parameters()).requires_grad_(False)
    before = frozen.clone()
    assert torch.equal(next(learn(plan).module.parameters()), before)


class Clock:
    """Seconds that pass only where the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("slower", [1.0, 3.0, 0.5])
def test_a_budget_is_kept_where_the_machine_becomes_slower_or_faster(slower: float) -> None:
    clock = Clock()
    plan = learning(10_000, budget=40.0, clock=clock)
    losses = plan.losses

    def timed(step: int, share: float) -> Mapping[str, Tensor]:
        clock.now += 1.0 if clock.now < 20 else slower
        return losses(step, share)

    run = learn(dataclasses.replace(plan, losses=timed))
    assert run.steps == int(20 + 20 / slower)
    assert 40 - slower < clock.now <= 40
    assert run.seconds == clock.now


def test_what_happens_between_steps_counts_for_the_budget() -> None:
    clock = Clock()

    def judge(step: int, module: nn.Module) -> bool:
        clock.now += 3.0
        return True

    plan = learning(10_000, budget=40.0, clock=clock, judge=judge, judged=1)
    assert learn(plan).steps == 13


def test_a_state_is_not_changed_by_the_steps_after_it() -> None:
    kept: list[dict] = []
    learn(learning(30), watch=Watch(wants=lambda: not kept, keep=lambda learner: kept.append(learner.state())))
    copied = copy.deepcopy(kept[0])
    Learner(learning(30), kept[0]).step()
    assert all(torch.equal(copied["module"][key], value) for key, value in kept[0]["module"].items())


def test_every_pass_over_the_pictures_shows_each_once_in_another_order() -> None:
    order = Shuffled(10, seed=3)
    seen = [number for step in range(5) for number in order.batch(step, 4)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    assert Shuffled(10, seed=3).batch(3, 4) == seen[12:16]
