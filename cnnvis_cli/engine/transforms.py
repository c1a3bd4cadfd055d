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
        matrix = torch.tensor(
            [[cos, -sin * height / width, 2 * dx / width], [sin * width / height, cos, 2 * dy / height]],
            dtype=pictures.dtype,
            device=pictures.device,
        )
        grid = F.affine_grid(matrix.expand(len(pictures), 2, 3), list(pictures.shape), align_corners=False)
        if wrap:
            down, across = (min(side, math.ceil(shift + reach * side / 2) + 1) for side in (height, width))
            pictures = F.pad(pictures, (across, across, down, down), mode="circular")
            grid = grid * grid.new_tensor([width / (width + 2 * across), height / (height + 2 * down)])
        return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    return apply
