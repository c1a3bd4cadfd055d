"""Changes of training pictures that do not change what they show."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def jittered(pictures: Tensor, generator: torch.Generator, strength: float = 0.3) -> Tensor:
    """Brightness, contrast and saturation of each picture (B, 3, H, W) times 1 - strength to 1 + strength, and a little noise.

    Noise makes first layers smoother and gradients cleaner. Values in [0, 1] stay there.
    """
    count = len(pictures)

    def factors() -> Tensor:
        return 1 + strength * (2 * torch.rand(count, 1, 1, 1, generator=generator) - 1).to(pictures.device)

    mean = pictures.mean((1, 2, 3), keepdim=True)
    changed = ((pictures - mean) * factors() + mean) * factors()
    grey = changed.mean(1, keepdim=True)
    changed = (changed - grey) * factors() + grey
    noise = torch.randn(pictures.shape, generator=generator) * torch.rand(count, 1, 1, 1, generator=generator)
    return (changed + 0.04 * noise.to(pictures.device)).clamp(0, 1)


def turned(pictures: Tensor, generator: torch.Generator, degrees: float) -> Tensor:
    """Each picture (B, C, H, W), square, turned and sheared by up to so many degrees. Borders are repeated."""
    count = len(pictures)
    turn, shear = math.radians(degrees) * (2 * torch.rand(2, count, generator=generator) - 1)
    cos, sin, slope = turn.cos(), turn.sin(), shear.tan()
    still = torch.zeros(count)
    places = torch.stack([cos, slope * cos - sin, still, sin, slope * sin + cos, still], 1).view(count, 2, 3)
    grid = F.affine_grid(places.to(pictures), list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def mixed(pictures: Tensor, targets: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """With the probability `share`, pictures (B, 3, H, W) and their targets (B, classes) mixed in pairs by one weight for all,
    which is mostly near 0 or 1 (Zhang et al. 2018, "mixup", with alpha 0.2)."""
    if torch.rand((), generator=generator).item() >= share:
        return pictures, targets
    # Two gammas make a beta: x^(1 / 0.2) of uniform numbers, accepted where their sum is at most 1 (Joehnk 1964).
    while True:
        one, two = torch.rand(2, generator=generator).pow(5).tolist()
        if 0 < one + two <= 1:
            break
    weight, order = one / (one + two), torch.randperm(len(pictures), generator=generator).to(pictures.device)
    return torch.lerp(pictures[order], pictures, weight), torch.lerp(targets[order], targets, weight)
