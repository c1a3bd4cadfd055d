"""Adversarial examples to learn from: a random start in the ball and one large step (fast), or several smaller ones (PGD).

Madry et al. 2018; Wong, Rice and Kolter 2020 ("Fast is better than free"). Weights get no gradient here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["l2", "linf"]


@contextmanager
def attacked(module: nn.Module) -> Iterator[None]:
    """A module that learns, as an attack sees it for the length of the block: in eval mode, and its weights get no gradient."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    module.requires_grad_(False).eval()
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
        module.train()


def lengths(change: Tensor) -> Tensor:
    """(B, 1, 1, 1) Euclidean lengths, never zero."""
    return change.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)


def random_change(shape: torch.Size, norm: Norm, epsilon: float, generator: torch.Generator) -> Tensor:
    """A change per picture: for l2 a random direction and a length uniform in [0, epsilon], which one step from there can
    learn from (uniform in the ball would start at its skin); for linf uniform in the cube."""
    if norm == "linf":
        return (2 * torch.rand(shape, generator=generator) - 1) * epsilon
    change = torch.randn(shape, generator=generator)
    radius = torch.rand(shape[0], 1, 1, 1, generator=generator) * epsilon
    return change / lengths(change) * radius


def into_ball(change: Tensor, norm: Norm, epsilon: float) -> Tensor:
    """The nearest change within the budget."""
    if norm == "linf":
        return change.clamp(-epsilon, epsilon)
    return change * (epsilon / lengths(change)).clamp_max(1)


def adversarial(
    model: Callable[[Tensor], Tensor],
    pictures: Tensor,
    labels: Tensor,
    *,
    norm: Norm = "l2",
    epsilon: float,
    steps: int = 1,
    generator: torch.Generator,
) -> Tensor:
    """Pictures (B, 3, H, W) in [0, 1] within `epsilon` of the given ones that `model` (pictures to logits) takes for their
    `labels` (B,) as little as it can be brought to in `steps`. Steps are 1.25 epsilon (one) or 2.5 epsilon / steps."""
    change = random_change(pictures.shape, norm, epsilon, generator).to(pictures.device)
    rate = 1.25 * epsilon if steps == 1 else 2.5 * epsilon / steps
    for _ in range(steps):
        seen = (pictures + change).clamp(0, 1).detach().requires_grad_()
        loss = F.cross_entropy(model(seen).float(), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, seen)
        direction = gradient.sign() if norm == "linf" else gradient / lengths(gradient)
        change = into_ball(seen.detach() - pictures + rate * direction, norm, epsilon)
    return (pictures + change).clamp(0, 1).detach()
