"""Random transforms of the pictures between steps, so that what is found does not hang on exact pixels (Olah et al. 2017).

A transform maps (pictures, generator) to pictures of the same size. All pictures of a batch get the same draw, so that a
picture does not depend on its neighbours in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Transform = Callable[[Tensor, torch.Generator], Tensor]


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def jitter(pixels: int) -> Transform:
    """Circular shift by up to `pixels` each way."""

    def apply(pictures: Tensor, generator: torch.Generator) -> Tensor:
        dy, dx = torch.randint(-pixels, pixels + 1, (2,), generator=generator).tolist()
        return pictures.roll((dy, dx), (2, 3))

    return apply


def _centres(count: int, like: Tensor) -> Tensor:
    """(count,) where pixels' centres lie in a side that goes from -1 to 1."""
    return (2 * torch.arange(count, dtype=like.dtype, device=like.device) + 1) / count - 1


def affine(*, shift: float = 0.0, degrees: float = 0.0, zoom: float = 0.0, wrap: bool = False) -> Transform:
    """One resampling that shifts by up to `shift` pixels, rotates by up to `degrees` and scales by a factor within
    1 / (1 + zoom) to 1 + zoom. Outside the picture its mirror image is seen, so no frame is drawn, or its opposite side
    (`wrap`), so that all of its pixels are seen equally often."""
    reach = math.sin(math.radians(min(degrees, 90))) + zoom  # how far a corner moves, in half sides

    def apply(pictures: Tensor, generator: torch.Generator) -> Tensor:
        height, width = pictures.shape[-2:]
        angle = math.radians(_uniform(-degrees, degrees, generator))
        factor = math.exp(_uniform(-1, 1, generator) * math.log1p(zoom))
        dy, dx = (_uniform(-shift, shift, generator) for _ in range(2))
        cos, sin = math.cos(angle) / factor, math.sin(angle) / factor
        across, down = _centres(width, pictures)[None, :], _centres(height, pictures)[:, None]
        # affine_grid gives the same by a product of matrices, which takes as long as the resampling itself.
        columns = cos * across + (2 * dx / width - sin * height / width * down)
        rows = sin * width / height * across + (2 * dy / height + cos * down)
        grid = torch.stack([columns, rows], dim=2).expand(len(pictures), -1, -1, -1)
        if wrap:
            tall, wide = (min(side, math.ceil(shift + reach * side / 2) + 1) for side in (height, width))
            pictures = F.pad(pictures, (wide, wide, tall, tall), mode="circular")
            grid = grid * grid.new_tensor([width / (width + 2 * wide), height / (height + 2 * tall)])
        return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    return apply
