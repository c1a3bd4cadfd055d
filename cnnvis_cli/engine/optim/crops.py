"""Random crops of a canvas larger than what the network is shown: whole objects where one view holds only their parts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Crops:
    """`count` square crops of each picture, brought to `side` pixels. Their sides are `share` of the canvas's short side, give
    or take `spread`; their middles are Gaussian around the canvas's, a quarter of it wide. `noise`: standard deviation that is
    added to each. After Fel et al. 2023, who draw from 5 to 25% of the side; all pictures of a batch get the same draw.
    """

    count: int
    side: int
    share: float = 0.4
    spread: float = 0.15
    noise: float = 0.06

    def __call__(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        """(B * count, 3, side, side), the crops of each picture next to each other, from (B, 3, H, W)."""
        views = torch.stack([self._crop(pictures, generator) for _ in range(self.count)], 1)
        shape = (1, *views.shape[1:])
        return (views + self.noise * torch.randn(shape, generator=generator).to(views)).flatten(0, 1)

    def _crop(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        height, width = pictures.shape[-2:]
        draw = torch.randn(3, generator=generator).tolist()
        short = min(height, width)
        size = round(short * min(1.0, max(0.1, self.share + self.spread * draw[0])))
        top, left = (
            round(min(1.0, max(0.0, 0.5 + 0.25 * middle)) * (length - size))
            for middle, length in zip(draw[1:], (height, width), strict=True)
        )
        piece = pictures[..., top : top + size, left : left + size]
        return F.interpolate(piece, (self.side, self.side), mode="bilinear", antialias=True, align_corners=False)
