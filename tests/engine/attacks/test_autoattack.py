"""AutoAttack, and its two attacks that choose their own steps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cnnvis_cli.engine.attacks.apgd import AdaptiveSteps, apgd
from cnnvis_cli.engine.attacks.autoattack import PARTS, autoattack
from cnnvis_cli.engine.attacks.ball import pgd
from cnnvis_cli.engine.attacks.bound import Bound
from cnnvis_cli.engine.attacks.fab import fab, to_plane
from cnnvis_cli.engine.attacks.problem import Goal, Problem
from cnnvis_cli.engine.errors import UserError

BOUNDS = [Bound("l2", 0.2), Bound("linf", 0.01)]


class Small(nn.Module):
    """Six classes, curved enough that one gradient does not tell the way."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Conv2d(3, 12, 3, 2), nn.SiLU(), nn.Conv2d(12, 16, 3, 2), nn.SiLU(), nn.Flatten())
        self.head = nn.Linear(16 * 9, 6)

    def forward(self, pictures: Tensor) -> Tensor:
        return 8 * self.head(self.body(pictures * 4 - 2))


@pytest.fixture(scope="module")
def model() -> Small:
    return Small().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(1)).mul(255).round() / 255


def labels(model: nn.Module, pictures: Tensor) -> Tensor:
    with torch.no_grad():
        return model(pictures).argmax(1)


def problem(model: nn.Module, pictures: Tensor, bound: Bound, aims: Tensor | None = None) -> Problem:
    return Problem(model, pictures, Goal(labels(model, pictures), aims=aims), bound, eightbit=False)


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.norm)
def test_the_nearest_point_of_a_plane_within_the_box(bound: Bound) -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(6, 3, 5, 5, generator=generator)
    slope = torch.randn(pictures.shape, generator=generator)
    gap = torch.tensor([0.5, -0.5, 2.0, -2.0, 8.0, 1e-4])
    change = to_plane(pictures, slope, gap, bound)
    assert ((slope * change).flatten(1).sum(1) + gap).abs().max() < 1e-4
    assert -1e-6 < (pictures + change).min() < (pictures + change).max() < 1 + 1e-6
    free = gap.abs() / (slope.flatten(1).norm(dim=1) if bound.norm == "l2" else slope.flatten(1).abs().sum(1))
    assert (bound.size(change) >= free - 1e-6).all()
    assert bound.size(change)[-1] == pytest.approx(free[-1].item(), rel=1e-3), "far from the box it is the plain formula"
    beyond = to_plane(pictures[:1], slope[:1], torch.tensor([1e4]), bound)
    assert torch.allclose(pictures[:1] + beyond, (slope[:1] < 0).float(), atol=1e-6), "as far as the box lets it"


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.norm)
def test_apgd_comes_further_than_pgd_in_as_many_steps(model: Small, pictures: Tensor, bound: Bound) -> None:
    def reached(found: Tensor) -> Tensor:
        with torch.no_grad():
            return Goal(labels(model, pictures)).cross_entropy(model(found))

    asked = problem(model, pictures, bound)
    asked.stop = lambda *_: lambda pictures, values, index: torch.zeros(len(index), dtype=torch.bool)  # type: ignore[assignment]
    found = apgd(asked, Goal.cross_entropy, steps=20)
    assert bound.size(found - pictures).max() <= bound.epsilon * (1 + 1e-5)
    plain = pgd(problem(model, pictures, bound), steps=20, stop_early=False)
    assert reached(found).mean() > reached(plain).mean()


def test_steps_are_halved_where_they_stop_helping() -> None:
    rule = AdaptiveSteps(torch.zeros(2, 3, 4, 4), Bound("linf", 0.1), 10)
    index, at = torch.arange(2), torch.full((2, 3, 4, 4), 0.05)
    for step in range(8):
        values = torch.tensor([float(step), 1.0 / (1 + step)])  # one rises, the other falls from the start
        at = at + rule.step(index, at, values, torch.ones_like(at))
    assert rule._rate[0] == pytest.approx(0.2)
    assert rule._rate[1] < 0.2


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.norm)
def test_as_many_withstand_it_as_the_peers(model: Small, pictures: Tensor, bound: Bound) -> None:
    import torchattacks

    asked = problem(model, pictures, bound)
    made, by = autoattack(asked, steps=30, aims=5, queries=200)
    assert set(by) <= {*PARTS, ""}
    assert bound.size(made - pictures).max() <= bound.epsilon * (1 + 1e-5)
    with torch.no_grad():
        fooled = model(made).argmax(1) != labels(model, pictures)
    assert fooled.tolist() == [bool(part) for part in by]
    given = {"norm": "L2" if bound.norm == "l2" else "Linf", "eps": bound.epsilon}
    peers = (
        torchattacks.APGD(model, **given, steps=30, loss="ce"),
        torchattacks.APGDT(model, **given, steps=30, n_classes=6),
        torchattacks.FAB(model, **given, steps=30, n_classes=6, multi_targeted=True),
        torchattacks.Square(model, **given, n_queries=200),
    )
    left = torch.arange(len(pictures))
    for peer in peers:
        found = peer(pictures[left], labels(model, pictures[left]))
        with torch.no_grad():
            left = left[model(found).argmax(1) == labels(model, pictures[left])]
    assert 4 < len(left) < 36, "a bound at which both kinds of picture are there"
    assert abs(by.count("") - len(left)) <= 1


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.norm)
def test_fab_alone_finds_what_lies_within_the_bound(model: Small, pictures: Tensor, bound: Bound) -> None:
    with torch.no_grad():
        aims = model(pictures).topk(2, dim=1).indices[:, 1]
    asked = problem(model, pictures, bound, aims)
    made = fab(asked, steps=20)
    near = bound.size(made - pictures) <= bound.epsilon * (1 + 1e-5)
    with torch.no_grad():
        fooled = (model(made).argmax(1) != labels(model, pictures)) & near
    assert fooled.sum() >= 4


def test_targets_are_refused(model: Small, pictures: Tensor) -> None:
    own = labels(model, pictures)
    with pytest.raises(UserError, match="no target"):
        autoattack(Problem(model, pictures, Goal(own, (own + 1) % 6), BOUNDS[0]))
