"""The 8-bit rule: what is judged is on the grid of 1/255, inside the budget, and repaired where rounding undid it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cnnvis_cli.engine.attacks.ball import pgd
from cnnvis_cli.engine.attacks.bound import Bound, rounded
from cnnvis_cli.engine.attacks.nearest import carlini_wagner, deepfool
from cnnvis_cli.engine.attacks.problem import Goal, Problem
from cnnvis_cli.engine.attacks.quantize import quantize
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.pixels import eight_bit


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 3.4 / 255), ("linf", 4 / 255), ("l2", 0.21)])
@pytest.mark.parametrize("threshold", [0.03, 0.5, 0.9])
def test_rounding_keeps_the_budget(
    pictures: Tensor, generator: torch.Generator, norm: str, epsilon: float, threshold: float
) -> None:
    budget = Bound(norm, epsilon)  # type: ignore[arg-type]
    change = torch.randn(pictures.shape, generator=generator)
    change = change / budget.size(change).view(-1, 1, 1, 1) * epsilon
    saved = rounded(pictures, (pictures + change).clamp(0, 1), budget, threshold)
    assert torch.equal(saved, eight_bit(saved))
    assert budget.size(saved - pictures).max() <= epsilon + 1e-6
    assert (saved != pictures).any()


def test_whole_levels_stay_what_they_are(pictures: Tensor) -> None:
    moved = (pictures + 4 / 255).clamp(0, 1)
    for threshold in (0.03, 0.5, 0.9):
        assert torch.allclose(rounded(pictures, moved, Bound("linf", 4 / 255), threshold), moved, atol=1e-6)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_repair_keeps_the_smallest_changes(network: Network, pictures: Tensor, goal: Goal, norm: str) -> None:
    """Plain rounding undoes many of DeepFool's successes; the repaired pictures keep at least 95% of them."""
    problem = Problem(network, pictures, goal, Bound(norm))  # type: ignore[arg-type]
    found = deepfool(problem)
    worked = problem.margin(found, problem.everything) > 0
    plain = problem.margin(eight_bit(found), problem.everything) > 0
    assert plain.sum() < worked.sum()
    kept = quantize(problem, found)
    assert torch.equal(kept.pictures, eight_bit(kept.pictures))
    assert torch.equal(kept.worked, worked)
    assert kept.fooled.sum() >= 0.95 * worked.sum()
    assert torch.equal(network(kept.pictures).argmax(1) != goal.labels, kept.fooled)
    assert "lattice" in kept.how
    if norm == "linf":  # a change of 1.3 levels becomes one of 2, no more
        whole = (problem.budget.size(found - pictures) * 255 - 0.01).ceil() / 255
        assert (problem.budget.size(kept.pictures - pictures) <= whole + 1e-6).all()


def test_repair_keeps_targeted_changes(network: Network, pictures: Tensor, targeted: Goal) -> None:
    problem = Problem(network, pictures, targeted, Bound("l2"))
    found = carlini_wagner(problem, steps=50, searches=4)
    worked = problem.margin(found, problem.everything) > 0
    kept = quantize(problem, found)
    assert kept.fooled.sum() >= 0.95 * worked.sum()
    assert torch.equal(network(kept.pictures).argmax(1) == targeted.targets, kept.fooled)


def test_what_never_fooled_is_reported_as_failed(network: Network, pictures: Tensor, targeted: Goal) -> None:
    problem = Problem(network, pictures, targeted, Bound("linf", 1 / 255))
    kept = quantize(problem, pgd(problem, steps=2))
    assert not kept.fooled.all()
    assert all((how == "failed") != bool(hit) for how, hit in zip(kept.how, kept.fooled, strict=True))
    assert (kept.pictures - pictures).abs().max() <= 1 / 255 + 1e-6
