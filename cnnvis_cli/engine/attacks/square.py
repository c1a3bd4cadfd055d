"""The Square attack: squares of change at random places, kept where they help. Asks the network for its logits alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cnnvis_cli.engine.attacks.problem import Problem

# Iterations (of 10,000) after which the side of the squares shrinks: the share of the area halves at each.
_SHRINK = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def square(problem: Problem, *, queries: int = 1000, share: float = 0.8, seed: int = 0) -> Tensor:
    """Square attack (Andriushchenko et al. 2020) for linf and l2 with up to `queries` forward passes per picture.

    `share`: share of the picture that the first squares cover; it halves on the paper's schedule, scaled to `queries`.
    Every picture draws from a generator of its own, so its result does not depend on the batch. Pictures that fool the
    network leave the batch.
    """
    base, budget, places = problem.base, problem.budget, problem.everything
    generators = [torch.Generator().manual_seed(seed + place) for place in places.tolist()]
    start = _stripes if budget.norm == "linf" else _tiles
    propose = _window_linf if budget.norm == "linf" else _window_l2
    current = base + torch.stack([start(p, budget.epsilon, g) for p, g in zip(base, generators, strict=True)])
    current = current.clamp(0, 1)
    margin = problem.margin(current, places)
    for count in range(queries - 1):
        places = (margin <= 0).nonzero().flatten()
        if not len(places) or problem.watch.should_stop():
            break
        problem.watch.on_step(count + 1, margin, current)
        area = share / 2 ** sum(count * 10_000 / queries > mark for mark in _SHRINK)
        tried = torch.stack([propose(base[i], current[i], budget.epsilon, area, generators[i]) for i in places.tolist()])
        reached = problem.margin(tried, places)
        better = reached > margin[places]
        margin[places[better]] = reached[better]
        current[places[better].to(base.device)] = tried[better.to(base.device)]
    return current


def _signs(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    return (2.0 * torch.randint(0, 2, shape, generator=generator) - 1).to(like)


def _place(height: int, width: int, side: int, generator: torch.Generator) -> tuple[slice, slice]:
    top = int(torch.randint(0, height - side + 1, (), generator=generator))
    left = int(torch.randint(0, width - side + 1, (), generator=generator))
    return slice(top, top + side), slice(left, left + side)


def _stripes(picture: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
    return epsilon * _signs((len(picture), 1, picture.shape[2]), generator, picture).expand_as(picture)


def _window_linf(base: Tensor, current: Tensor, epsilon: float, area: float, generator: torch.Generator) -> Tensor:
    """`current` (C, H, W) with one square of base + or - epsilon, by channel."""
    channels, height, width = base.shape
    side = min(max(1, round(math.sqrt(area * height * width))), height - 1, width - 1)
    rows, columns = _place(height, width, side, generator)
    tried = current.clone()
    tried[:, rows, columns] = base[:, rows, columns] + epsilon * _signs((channels, 1, 1), generator, base)
    return tried.clamp(0, 1)


def _bump(side: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """(side, side) of length 1: one half a hill, the other a hollow, the paper's eta."""

    def hill(height: int, width: int) -> Tensor:
        up, across = torch.arange(height) - height // 2, torch.arange(width) - width // 2
        ring = torch.maximum(up.abs()[:, None], across.abs()[None, :])
        tail = torch.arange(1, max(height, width) + 2).double().pow(-2).flip(0).cumsum(0).flip(0)
        return tail[ring].to(like)

    half = torch.cat([hill(side // 2, side), -hill(side - side // 2, side)])
    half = half / half.norm()
    return half.T if torch.rand((), generator=generator) > 0.5 else half


def _tiles(picture: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
    channels, height, width = picture.shape
    side = max(2, min(height, width) // 5)
    change = torch.zeros_like(picture)
    for top in range(0, height - side + 1, side):
        for left in range(0, width - side + 1, side):
            bump = _bump(side, generator, picture) * _signs((channels, 1, 1), generator, picture)
            change[:, top : top + side, left : left + side] = bump
    return epsilon * change / change.norm()


def _window_l2(base: Tensor, current: Tensor, epsilon: float, area: float, generator: torch.Generator) -> Tensor:
    """`current` (C, H, W) with the change of one window moved, sharpened, into another."""
    channels, height, width = base.shape
    side = max(round(math.sqrt(area * height * width)), 3)
    side = min(side + (side % 2 == 0), height - 1, width - 1)
    to, source = _place(height, width, side, generator), _place(height, width, side, generator)
    change = current - base
    masked = change.clone()
    masked[:, to[0], to[1]] = 0
    masked[:, source[0], source[1]] = 0
    room = max(0.0, epsilon**2 - change.norm().item() ** 2) + change.norm().item() ** 2 - masked.norm().item() ** 2
    old = change[:, to[0], to[1]]
    bump = _bump(side, generator, base) * _signs((channels, 1, 1), generator, base)
    new = bump + old / old.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1)
    masked[:, to[0], to[1]] = new / new.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1) * math.sqrt(room / channels)
    masked = masked * (epsilon / masked.norm().clamp_min(1e-12)).clamp_max(1)
    return (base + masked).clamp(0, 1)
