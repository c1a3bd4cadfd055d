"""Measures of change, warnings, the curve of accuracy by budget, and the universal change."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cnnvis_cli.engine.attacks.assessment import accuracy_by_budget, changes, suspicions
from cnnvis_cli.engine.attacks.ball import pgd
from cnnvis_cli.engine.attacks.bound import Bound
from cnnvis_cli.engine.attacks.problem import Goal, Problem
from cnnvis_cli.engine.attacks.universal import universal
from cnnvis_cli.engine.network.network import Network


def test_measures_of_a_known_change() -> None:
    before = torch.full((1, 3, 16, 16), 0.5)
    after = before.clone()
    after[0, 0, 2, 3] += 10 / 255
    after[0, 1, 2, 3] -= 20 / 255
    after[0, 2, 9, 9] += 20 / 255
    (change,) = changes(before, after)
    assert change.l0 == 2
    assert change.linf == pytest.approx(20 / 255)
    assert change.l2 == pytest.approx(30 / 255)
    assert change.psnr == pytest.approx(10 * math.log10(3 * 256 / (30 / 255) ** 2))
    assert 0.9 < change.ssim < 1
    (none,) = changes(before, before)
    assert (none.l0, none.l2, none.psnr, none.ssim) == (0, 0, math.inf, pytest.approx(1))


def test_a_sound_network_raises_no_suspicion(network: Network, pictures: Tensor, goal: Goal) -> None:
    assert suspicions(network, pictures, goal, [f"p{i}" for i in range(12)]) == []


def test_suspicions_are_told(network: Network, pictures: Tensor, goal: Goal) -> None:
    names = [f"p{i}" for i in range(12)]
    labels = goal.labels.clone()
    labels[2] = (labels[2] + 1) % 10
    (wrong,) = suspicions(network, pictures, Goal(labels), names)
    assert wrong.startswith("p2: the network is wrong before any attack")
    (flat,) = suspicions(
        lambda batch: network((batch * 15).round() / 15), pictures, Goal(network((pictures * 15).round() / 15).argmax(1)), names
    )
    assert "gradient is zero" in flat
    assert "and 7 more" in flat
    calls = 0

    def unsteady(batch: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return network(batch) * calls

    assert any("asked twice" in line for line in suspicions(unsteady, pictures, goal, names))


def test_accuracy_falls_with_the_budget(network: Network, pictures: Tensor, goal: Goal) -> None:
    budgets = [0.0, 1 / 255, 4 / 255, 16 / 255]
    shares = accuracy_by_budget(network, pictures, goal, "linf", budgets, lambda problem: pgd(problem, steps=10))
    assert shares[0] == 1
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.2


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 16 / 255), ("l2", 1.5)])
def test_one_change_fools_many(network: Network, pictures: Tensor, goal: Goal, norm: str, epsilon: float) -> None:
    problem = Problem(network, pictures, goal, Bound(norm, epsilon))  # type: ignore[arg-type]
    change, found = universal(problem, steps=40, batch=5)
    assert problem.budget.size(change[None]).item() <= epsilon + 1e-5
    assert torch.allclose(found, (pictures + change).clamp(0, 1), atol=1e-6)
    assert (problem.margin(found, problem.everything) > 0).float().mean() > 0.5
