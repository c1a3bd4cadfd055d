"""Changes of training pictures that do not change what they show."""

from __future__ import annotations

import torch
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
