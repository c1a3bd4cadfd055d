"""Adversarial examples to learn from: within the bound, harder, and without a trace in the weights."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.engine.learning.adversarial import adversarial, random_change
from cnnvis_cli.engine.learning.augment import mixed, turned
from cnnvis_cli.engine.learning.verdict import Accuracy, clean_accuracy, robust_accuracy
from cnnvis_cli.engine.network.network import Network


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(("norm", "epsilon"), [("l2", 1.5), ("linf", 4 / 255)])
def test_they_keep_the_bound_and_raise_the_loss(
    minivgg: Network, generator: torch.Generator, norm: Literal["l2", "linf"], epsilon: float, steps: int
) -> None:
    pictures = torch.rand(4, 3, 64, 64, generator=generator)
    labels = minivgg(pictures).argmax(1)
    made = adversarial(minivgg, pictures, labels, norm=norm, epsilon=epsilon, steps=steps, generator=generator)
    change = (made - pictures).flatten(1)
    size = change.norm(dim=1) if norm == "l2" else change.abs().amax(1)
    assert (size <= epsilon * (1 + 1e-4)).all()
    assert made.min() >= 0
    assert made.max() <= 1

    def loss(shown: Tensor) -> Tensor:
        return F.cross_entropy(minivgg(shown), labels)

    assert loss(made) > loss(pictures) + 0.1
    again = random_change(pictures.shape, norm, epsilon, torch.Generator().manual_seed(1))
    assert loss(made) > loss((pictures + again).clamp(0, 1)) + 0.1


def test_l2_starts_fill_the_ball_from_its_middle() -> None:
    change = random_change(torch.Size((2000, 3, 4, 4)), "l2", 2.0, torch.Generator().manual_seed(0))
    lengths = change.flatten(1).norm(dim=1)
    assert lengths.max() <= 2.0
    assert lengths.mean().item() == pytest.approx(1.0, abs=0.05)


def test_robust_accuracy_is_at_most_the_clean_one_and_falls_with_the_bound(minivgg: Network) -> None:
    from cnnvis_cli.pictures.read import find_pictures, read, to_square

    pictures = torch.cat([to_square(read(source), 64) for source in find_pictures("sample:*")[:6]])
    labels = minivgg(pictures).argmax(1)
    shares = [robust_accuracy(minivgg, pictures, labels, norm="l2", epsilon=e, steps=5).share for e in (0.01, 2.0)]
    assert clean_accuracy(minivgg, pictures, labels) == Accuracy(6, 6)
    assert shares[0] >= shares[1]
    assert shares[1] < 1


def test_the_error_of_a_share_is_that_of_the_binomial() -> None:
    assert Accuracy(50, 100).error == pytest.approx(0.05)


def test_mixup_mixes_pictures_and_targets_alike() -> None:
    pictures, targets = torch.eye(4).view(4, 1, 2, 2), torch.eye(4)
    weights = []
    for seed in range(40):
        made, wanted = mixed(pictures, targets, 1.0, torch.Generator().manual_seed(seed))
        assert torch.allclose(made.flatten(1), wanted)
        assert torch.allclose(wanted.sum(1), torch.ones(4))
        weights.append(wanted.diagonal().amin().item())
    assert sum(0.1 < weight < 0.9 for weight in weights) < 20  # mostly near 0 or 1
    untouched = mixed(pictures, targets, 0.0, torch.Generator().manual_seed(0))
    assert torch.equal(untouched[0], pictures)


def test_turned_pictures_keep_their_middle_and_move_at_the_rim(generator: torch.Generator) -> None:
    """A bar through the middle: its middle stays, its ends move as far as the angle says and no further."""
    bar = torch.zeros(64, 1, 33, 33)
    bar[:, :, 15:18] = 1
    made = turned(bar, generator, 12)
    assert torch.allclose(made[:, :, 16, 16], torch.ones(64, 1), atol=1e-4)
    rows = torch.arange(33.0)[:, None]
    ends = (made * rows).sum(2)[:, 0, -1] / made.sum(2)[:, 0, -1].clamp(min=1e-6) - 16
    assert ends.abs().max() <= 16 * math.tan(math.radians(24)) + 1
    assert ends.std() > 1
    assert turned(bar, torch.Generator().manual_seed(1), 1e-9).sub(bar).abs().max() < 1e-4
