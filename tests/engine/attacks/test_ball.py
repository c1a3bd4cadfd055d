"""Attacks within a budget: the same as other libraries', inside the ball, early stop, restarts, nothing left behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cnnvis_cli.engine.attacks.ball import ascent, fgsm, pgd
from cnnvis_cli.engine.attacks.bound import Bound
from cnnvis_cli.engine.attacks.problem import Goal, Problem
from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.network.network import Network

EPSILON = 8 / 255


def differs(a: Tensor, b: Tensor) -> float:
    """Share of values that are not the same."""
    return ((a - b).abs() > 1e-5).float().mean().item()


@pytest.fixture
def problem(network: Network, pictures: Tensor, goal: Goal) -> Problem:
    return Problem(network, pictures, goal, Bound("linf", EPSILON))


def test_fgsm_and_pgd_are_those_of_torchattacks(
    problem: Problem, classifier: nn.Module, pictures: Tensor, goal: Goal, targeted: Goal
) -> None:
    oracle = pytest.importorskip("torchattacks")
    fast = oracle.FGSM(classifier, eps=EPSILON)(pictures, goal.labels)
    assert differs(fgsm(problem), fast) < 1e-3  # a gradient of exactly 0 may have either sign
    mine = pgd(problem, steps=7, rate=2 / 255, random_start=False, stop_early=False)
    theirs = oracle.PGD(classifier, eps=EPSILON, alpha=2 / 255, steps=7, random_start=False)(pictures, goal.labels)
    assert differs(mine, theirs) < 1e-2
    momentum = pgd(problem, steps=7, rate=2 / 255, momentum=1.0, random_start=False, stop_early=False)
    theirs = oracle.MIFGSM(classifier, eps=EPSILON, alpha=2 / 255, steps=7, decay=1.0)(pictures, goal.labels)
    assert differs(momentum, theirs) < 1e-2
    attack = oracle.PGD(classifier, eps=EPSILON, alpha=2 / 255, steps=7, random_start=False)
    attack.set_mode_targeted_by_label(quiet=True)
    aimed = Problem(problem.model, pictures, targeted, problem.budget)
    mine = pgd(aimed, steps=7, rate=2 / 255, random_start=False, stop_early=False)
    assert differs(mine, attack(pictures, targeted.targets)) < 1e-2


def test_l2_pgd_is_that_of_foolbox(network: Network, classifier: nn.Module, pictures: Tensor, goal: Goal) -> None:
    foolbox = pytest.importorskip("foolbox")
    attack = foolbox.attacks.L2ProjectedGradientDescentAttack(abs_stepsize=0.1, steps=10, random_start=False)
    model = foolbox.PyTorchModel(classifier, bounds=(0, 1), device="cpu")
    theirs, _, hits = attack(model, pictures, goal.labels, epsilons=0.5)
    problem = Problem(network, pictures, goal, Bound("l2", 0.5))
    mine = pgd(problem, steps=10, rate=0.1, random_start=False, stop_early=False)
    assert torch.allclose(mine, theirs, atol=1e-3)
    assert ((problem.margin(mine, problem.everything) > 0) == hits).all()


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", EPSILON), ("l2", 0.7)])
def test_stays_in_the_budget_and_fools(network: Network, pictures: Tensor, targeted: Goal, norm: str, epsilon: float) -> None:
    problem = Problem(network, pictures, targeted, Bound(norm, epsilon))  # type: ignore[arg-type]
    found = pgd(problem, steps=40, restarts=2)
    assert problem.budget.size(found - pictures).max() <= epsilon + 1e-5
    assert found.min() >= 0
    assert found.max() <= 1
    assert (problem.margin(found, problem.everything) > 0).float().mean() > 0.7


def test_fooled_pictures_leave_the_batch(network: Network, pictures: Tensor, goal: Goal) -> None:
    asked = 0

    def model(batch: Tensor) -> Tensor:
        nonlocal asked
        asked += len(batch)
        return network(batch)

    problem = Problem(model, pictures, goal, Bound("linf", EPSILON), eightbit=False)
    pgd(problem, steps=20, random_start=False)
    assert asked == problem.queries.sum() < 12 * 20 * 0.7
    assert problem.gradients.max() <= 20


def test_early_stop_waits_for_the_rounded_picture(problem: Problem) -> None:
    found = pgd(problem, steps=40, rate=0.3 / 255)
    saved = (found * 255).round() / 255
    hits = problem.margin(found, problem.everything) > 0
    assert hits.any()
    assert (problem.margin(saved, problem.everything)[hits] > 0).all()


def test_confidence_makes_the_network_surer(problem: Problem) -> None:
    sure = pgd(problem, steps=40, confidence=0.9, restarts=1)
    logits = problem.ask(sure, problem.everything)
    assert (logits.softmax(1).amax(1) >= 0.9).float().mean() > 0.8


def test_a_picture_does_not_depend_on_its_batch(network: Network, pictures: Tensor, goal: Goal) -> None:
    whole = pgd(Problem(network, pictures, goal, Bound("linf", EPSILON)), steps=5, stop_early=False)
    part = Problem(network, pictures[:4], goal.at(torch.arange(4)), Bound("linf", EPSILON))
    assert differs(whole[:4], pgd(part, steps=5, stop_early=False)) < 1e-2


def test_restarts_only_help(network: Network, pictures: Tensor, targeted: Goal) -> None:
    def hits(restarts: int) -> Tensor:
        problem = Problem(network, pictures, targeted, Bound("linf", 5 / 255))
        return problem.margin(pgd(problem, steps=6, restarts=restarts), problem.everything)

    once, often = hits(1), hits(4)
    assert (often >= once - 1e-4).all()


def test_ascent_raises_the_class_score_until_fooled(network: Network, pictures: Tensor, targeted: Goal) -> None:
    problem = Problem(network, pictures, targeted, Bound("l2"))
    found = ascent(problem, steps=300)
    logits = network(found)
    assert (logits.argmax(1) == targeted.targets).all()
    assert logits.softmax(1).gather(1, targeted.targets[:, None]).min() < 0.9  # it stopped there


def test_weights_get_no_gradients_and_flags_stay_even_after_an_exception(
    classifier: nn.Module, pictures: Tensor, goal: Goal
) -> None:
    classifier.zero_grad()
    flags = [parameter.requires_grad for parameter in classifier.parameters()]
    calls = 0

    def dies(batch: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError("gone")
        return classifier(batch)

    with pytest.raises(OSError, match="gone"):
        pgd(Problem(dies, pictures, goal, Bound("linf", EPSILON)), steps=5)
    assert all(parameter.grad is None for parameter in classifier.parameters())
    assert flags == [parameter.requires_grad for parameter in classifier.parameters()]
    assert not classifier.training
    assert torch.is_grad_enabled()
    assert not any(module._forward_hooks or module._backward_hooks for module in classifier.modules())


def test_bad_goals_and_budgets_are_refused(goal: Goal) -> None:
    with pytest.raises(UserError, match="already has"):
        Goal(goal.labels, goal.labels)
    for norm, epsilon in (("linf", 0.0), ("linf", 1.5), ("l2", -1.0), ("linf", float("nan")), ("l1", 0.1)):
        with pytest.raises(UserError):
            Bound(norm, epsilon)  # type: ignore[arg-type]
