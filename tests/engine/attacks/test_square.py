"""The black box: inside the budget, never worse by asking more, and needing no gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cnnvis_cli.engine.attacks.bound import Bound
from cnnvis_cli.engine.attacks.problem import Goal, Problem
from cnnvis_cli.engine.attacks.square import square
from cnnvis_cli.engine.network.network import Network


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 12 / 255), ("l2", 1.5)])
def test_fools_a_network_that_gives_no_gradients(
    network: Network, pictures: Tensor, goal: Goal, norm: str, epsilon: float
) -> None:
    @torch.no_grad()
    def model(batch: Tensor) -> Tensor:
        return network(batch)

    problem = Problem(model, pictures, goal, Bound(norm, epsilon))  # type: ignore[arg-type]
    found = square(problem, queries=200)
    assert problem.budget.size(found - pictures).max() <= epsilon * (1 + 1e-5)
    assert found.min() >= 0
    assert found.max() <= 1
    hits = problem.margin(found, problem.everything) > 0
    assert hits.float().mean() > 0.6
    assert problem.queries.max() <= 201
    assert (problem.gradients == 0).all()


def test_succeeds_about_as_often_as_torchattacks(network: Network, classifier: nn.Module, pictures: Tensor, goal: Goal) -> None:
    oracle = pytest.importorskip("torchattacks")
    theirs = oracle.Square(classifier, norm="Linf", eps=8 / 255, n_queries=150, seed=0)(pictures, goal.labels)
    theirs_hit = (network(theirs).argmax(1) != goal.labels).float().mean()
    problem = Problem(network, pictures, goal, Bound("linf", 8 / 255))
    mine_hit = (problem.margin(square(problem, queries=150), problem.everything) > 0).float().mean()
    assert mine_hit == pytest.approx(theirs_hit, abs=0.25)


def test_the_same_seed_gives_the_same_picture_alone_and_in_a_batch(network: Network, pictures: Tensor, goal: Goal) -> None:
    budget = Bound("linf", 3 / 255)
    whole = square(Problem(network, pictures, goal, budget), queries=20)
    alone = square(Problem(network, pictures[:1], goal.at(torch.arange(1)), budget), queries=20)
    assert torch.allclose(whole[:1], alone, atol=1e-6)
