"""Smallest changes: DeepFool and Carlini-Wagner find changes as small as other libraries', L-BFGS fools."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cnnvis_cli.engine.attacks.bound import Bound
from cnnvis_cli.engine.attacks.nearest import carlini_wagner, deepfool, lbfgs
from cnnvis_cli.engine.attacks.problem import Goal, Problem
from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.network.network import Network


def lengths(found: Tensor, pictures: Tensor) -> Tensor:
    return (found - pictures).flatten(1).norm(dim=1)


@pytest.fixture
def problem(network: Network, pictures: Tensor, goal: Goal) -> Problem:
    return Problem(network, pictures, goal, Bound("l2"))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_deepfool_is_that_of_foolbox(network: Network, classifier: nn.Module, pictures: Tensor, goal: Goal, norm: str) -> None:
    foolbox = pytest.importorskip("foolbox")
    kind = foolbox.attacks.L2DeepFoolAttack if norm == "l2" else foolbox.attacks.LinfDeepFoolAttack
    model = foolbox.PyTorchModel(classifier, bounds=(0, 1), device="cpu")
    theirs, _, _ = kind(steps=50, candidates=10, overshoot=0.02)(model, pictures, goal.labels, epsilons=None)
    problem = Problem(network, pictures, goal, Bound(norm))  # type: ignore[arg-type]
    mine = deepfool(problem)
    assert (problem.margin(mine, problem.everything) > 0).all()
    ratio = problem.budget.size(mine - pictures) / problem.budget.size(theirs - pictures)
    assert ratio.median() == pytest.approx(1, abs=0.02)
    assert ratio.max() < 1.1


def test_deepfool_is_no_longer_than_that_of_torchattacks(problem: Problem, classifier: nn.Module, pictures: Tensor) -> None:
    """torchattacks takes each step with overshoot and truncates to the box; norms agree within 10% at the median."""
    oracle = pytest.importorskip("torchattacks")
    theirs = oracle.DeepFool(classifier, steps=50, overshoot=0.02)(pictures[:6], problem.goal.labels[:6])
    mine = lengths(deepfool(problem), pictures)[:6]
    assert (mine / lengths(theirs, pictures[:6])).median() == pytest.approx(1, abs=0.1)


def test_carlini_wagner_agrees_with_foolbox(problem: Problem, classifier: nn.Module, pictures: Tensor) -> None:
    foolbox = pytest.importorskip("foolbox")
    attack = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=5, steps=60, stepsize=0.01, initial_const=0.1)
    model = foolbox.PyTorchModel(classifier, bounds=(0, 1), device="cpu")
    theirs, _, hits = attack(model, pictures, problem.goal.labels, epsilons=None)
    mine = carlini_wagner(problem, steps=60, searches=5, constant=0.1)
    assert (problem.margin(mine, problem.everything) > 0).sum() >= hits.sum()
    ratio = lengths(mine, pictures) / lengths(theirs, pictures)
    assert ratio.median() == pytest.approx(1, abs=0.05)
    assert ratio.max() < 1.2


def test_carlini_wagner_and_lbfgs_reach_a_target(network: Network, pictures: Tensor, targeted: Goal) -> None:
    aimed = Problem(network, pictures[:3], targeted.at(torch.arange(3)), Bound("l2"))
    sharp = carlini_wagner(aimed, steps=50, searches=4)
    rough = lbfgs(aimed, steps=15, searches=4)
    for found in (sharp, rough):
        assert (network(found).argmax(1) == targeted.targets[:3]).all()  # type: ignore[index]
        assert found.min() >= 0
        assert found.max() <= 1
    assert (lengths(rough, pictures[:3]) < 3 * lengths(sharp, pictures[:3])).all()


def test_kappa_asks_for_a_margin(network: Network, pictures: Tensor, goal: Goal) -> None:
    few = Problem(network, pictures[:4], goal.at(torch.arange(4)), Bound("l2"))
    sure = few.margin(carlini_wagner(few, steps=40, searches=3, constant=1.0, kappa=2.0), few.everything)
    edge = few.margin(carlini_wagner(few, steps=40, searches=3, constant=1.0), few.everything)
    assert sure.median() > edge.median() + 1


def test_deepfool_takes_no_target(network: Network, pictures: Tensor, targeted: Goal) -> None:
    with pytest.raises(UserError, match="no target"):
        deepfool(Problem(network, pictures, targeted, Bound("l2")))
