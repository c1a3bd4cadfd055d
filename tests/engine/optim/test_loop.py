"""The loop: it rises, stops for the reasons it says, and goes on exactly where it was interrupted."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from cnnvis_cli.engine.errors import RunError
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim import objectives
from cnnvis_cli.engine.optim.evaluate import score, value_gradient
from cnnvis_cli.engine.optim.loop import Loop, Watch, synthesize, synthesize_stages
from cnnvis_cli.engine.optim.optimizers import Update
from cnnvis_cli.engine.optim.parameterizations import Fourier, Perturbed, Pixels, noise
from cnnvis_cli.engine.optim.transforms import affine

SIDE = 48


def loop(network: Network, steps: int = 12, update: Update = "adam", image: str = "fourier", **settings: object) -> Loop:
    generator = torch.Generator().manual_seed(3)
    start = 0.5 + 0.1 * noise([0, 1], 3, SIDE, SIDE)
    shapes = {"fourier": lambda: Fourier.from_noise([0, 1], SIDE, SIDE), "pixels": lambda: Pixels(start.clamp(0, 1))}
    objective = objectives.channel("conv3_1", 5)
    evaluate = value_gradient(network, objective, transform=affine(shift=3, degrees=5, zoom=0.1), generator=generator)
    rates = {"adam": 0.05, "lbfgs": 0.5, "gradient": 5.0, "normalized": 0.01, "sign": 0.01}
    values = {"update": update, "rate": rates[update], "generator": generator, **settings}
    return Loop(shapes[image](), evaluate, steps, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("update", ["adam", "lbfgs", "gradient", "normalized", "sign"])
@pytest.mark.parametrize("image", ["fourier", "pixels"])
def test_the_objective_rises_on_the_rounded_picture(minivgg: Network, update: Update, image: str) -> None:
    if update in ("gradient", "normalized", "sign") and image == "fourier":
        pytest.skip("steps in units of pixels are for pixels")
    run = loop(minivgg, update=update, image=image)
    before = score(minivgg, objectives.channel("conv3_1", 5), run.image().detach())
    outcome = synthesize(run)
    rounded = (outcome.pictures * 255).round() / 255
    after = score(minivgg, objectives.channel("conv3_1", 5), rounded)
    assert (after > before + 0.1 * before.abs()).all()
    assert outcome.stopped == "steps"
    assert outcome.steps == len(outcome.trace) == 12
    assert rounded.min() >= 0
    assert rounded.max() <= 1


@pytest.mark.parametrize("update", ["adam", "lbfgs", "normalized"])
def test_an_interrupted_run_equals_an_uninterrupted_one_bit_for_bit(minivgg: Network, update: Update) -> None:
    whole = synthesize(loop(minivgg, update=update, average=0.8))
    steps = iter(range(100))
    first = synthesize(loop(minivgg, update=update, average=0.8), watch=Watch(should_stop=lambda: next(steps) == 5))
    assert first.stopped == "interrupted"
    assert first.steps == 5
    state = copy.deepcopy(first.state)
    second = synthesize(loop(minivgg, update=update, average=0.8), state=state)
    assert torch.equal(second.pictures, whole.pictures)
    assert all(torch.equal(a, b) for a, b in zip(second.trace, whole.trace, strict=True))


def test_stages_go_on_inside_the_stage_that_was_interrupted(minivgg: Network) -> None:
    def stage(previous: Tensor | None) -> Loop:
        run = loop(minivgg, steps=4, image="pixels", update="normalized")
        return run if previous is None else Loop(Pixels(previous), run.evaluate, 4, "normalized", 0.01, generator=run.generator)

    whole = synthesize_stages([stage, stage, stage])
    count = iter(range(100))
    first = synthesize_stages([stage, stage, stage], watch=Watch(should_stop=lambda: next(count) == 6))
    assert [outcome.stopped for outcome in first] == ["steps", "interrupted"]
    second = synthesize_stages([stage, stage, stage], state=copy.deepcopy(first[-1].state))
    assert len(second) == 3
    assert torch.equal(second[-1].pictures, whole[-1].pictures)


def test_stops_at_a_wanted_value_and_where_it_no_longer_rises(minivgg: Network) -> None:
    reached = synthesize(loop(minivgg, steps=200, target=0.05))
    assert reached.stopped == "target"
    assert (reached.trace[-1] >= 0.05).all()
    still = loop(minivgg, steps=200, patience=3, image="pixels", update="normalized")
    still.rate = 1e-12
    still.evaluate = value_gradient(minivgg, objectives.channel("conv3_1", 5))
    assert synthesize(still).stopped == "plateau"


def test_finished_pictures_leave_the_batch_and_stay_as_they_were(minivgg: Network) -> None:
    sizes = []
    run = loop(minivgg, image="pixels", update="sign")
    inner = run.evaluate

    def evaluate(pictures: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(len(pictures))
        return inner(pictures, index)

    run.evaluate = evaluate
    run.done = lambda pictures, values, index: index == 0
    start = run.image().detach().clone()
    outcome = synthesize(run)
    assert sizes == [2] + [1] * 11
    assert torch.equal(outcome.pictures[0], start[0])
    assert not torch.equal(outcome.pictures[1], start[1])


def test_not_a_number_keeps_the_best_and_says_so(minivgg: Network) -> None:
    run = loop(minivgg, image="pixels", update="lbfgs")
    inner, calls = run.evaluate, iter(range(100))

    def evaluate(pictures: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        values, gradient = inner(pictures, index)
        return (values * math.nan, gradient) if next(calls) == 6 else (values, gradient)

    run.evaluate = evaluate
    outcome = synthesize(run)
    assert outcome.stopped == "diverged"
    assert torch.isfinite(outcome.pictures).all()
    bad = loop(minivgg)
    bad.evaluate = lambda pictures, index: (torch.full((2,), math.nan), torch.zeros_like(pictures))
    with pytest.raises(RunError, match="not a number"):
        synthesize(bad)


def test_perturbations_stay_in_their_ball() -> None:
    base = torch.rand(2, 3, 8, 8)
    for norm, epsilon in (("linf", 0.03), ("l2", 0.5)):
        image = Perturbed(base, epsilon, norm)
        with torch.no_grad():
            image.parameters()[0].add_(torch.randn_like(base))
        image.project()
        change = (image() - base).flatten(1)
        size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
        assert (size <= epsilon + 1e-6).all()
        assert image().min() >= 0
        assert image().max() <= 1


def test_fourier_starts_from_a_given_picture() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 1, 21), torch.linspace(0, 1, 30), indexing="ij")
    picture = torch.stack([y, x, (y + x) / 2])[None] * 0.9 + 0.05
    assert torch.allclose(Fourier.from_pictures(picture)(), picture, atol=1e-4)


def test_a_picture_does_not_depend_on_its_batch(minivgg: Network) -> None:
    both = synthesize(loop(minivgg)).pictures
    alone = loop(minivgg)
    alone.image = Fourier.from_noise([1], SIDE, SIDE)
    # Sums in another order differ in their last bits, which Adam makes visible; another start differs a hundred times as much.
    assert (synthesize(alone).pictures[0] - both[1]).abs().mean() < 0.02 < 5 * (both[0] - both[1]).abs().mean()
