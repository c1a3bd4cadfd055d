"""Tells a painter's patches from painted ones: convolutions with an opinion at several scales (Sanakoyeu et al. 2018)."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class Critic(nn.Module):
    """Pictures (B, 3, H, W) in [0, 1], from 32 px on, to scores (B, 1, h, w) at each of its scales: above 0 for a painting.

    No normalization: a mean over the picture would hide the palette. Four layers where the paper has seven, at 768 px.
    """

    def __init__(self, width: int = 24, depth: int = 4) -> None:
        super().__init__()
        channels = [3, *(width * min(4, 2**level) for level in range(depth))]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 5, 2, 2) for a, b in pairwise(channels))
        self.heads = nn.ModuleList(nn.Conv2d(count, 1, 3, 1, 1) for count in channels[2:])

    def forward(self, pictures: Tensor) -> list[Tensor]:
        maps, scores = 2 * pictures - 1, []
        for number, layer in enumerate(self.layers):
            maps = F.leaky_relu(layer(maps), 0.2)
            if number:
                scores.append(self.heads[number - 1](maps))
        return scores
