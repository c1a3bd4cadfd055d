"""Tells a painter's patches from painted ones: convolutions with an opinion at several scales (Sanakoyeu et al. 2018).

Two of a kind: one that learns to look by itself, from pixels on, as in the paper; and one that looks through a network that
has learned to see (Sauer et al. 2021, projected GANs), of which only the opinions are learned. On one painting and some
hundreds of steps the first is fooled by lattices of dots, the second asks for strokes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

_SLOPE = 0.2


class PixelCritic(nn.Module):
    """[Pictures (B, 3, H, W) in [0, 1]], from 32 px on, to scores (B, 1, h, w) at each of its scales: above 0 for a painting.

    No normalization: a mean over the picture would hide the palette. Four layers where the paper has seven, at 768 px.
    """

    def __init__(self, width: int = 24, depth: int = 4) -> None:
        super().__init__()
        channels = [3, *(width * min(4, 2**level) for level in range(depth))]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 5, 2, 2) for a, b in pairwise(channels))
        self.heads = nn.ModuleList(nn.Conv2d(count, 1, 3, 1, 1) for count in channels[2:])

    def forward(self, looks: Sequence[Tensor]) -> list[Tensor]:
        maps, scores = 2 * looks[0] - 1, []
        for number, layer in enumerate(self.layers):
            maps = F.leaky_relu(layer(maps), _SLOPE)
            if number:
                scores.append(self.heads[number - 1](maps))
        return scores


class FeatureCritic(nn.Module):
    """Maps (B, C, H, W) of a network's layers, each of mean square about 1, to scores (B, 1, h, w) of each layer.

    With spectral normalization (Miyato et al. 2018), so that no head can be steep.
    """

    def __init__(self, channels: Sequence[int], width: int = 48) -> None:
        super().__init__()
        self.heads = nn.ModuleList(self._head(count, width) for count in channels)

    @staticmethod
    def _head(count: int, width: int) -> nn.Sequential:
        first, second, last = nn.Conv2d(count, width, 3, 1, 1), nn.Conv2d(width, width, 3, 2, 1), nn.Conv2d(width, 1, 3, 1, 1)
        steps = [spectral_norm(first), nn.LeakyReLU(_SLOPE), spectral_norm(second), nn.LeakyReLU(_SLOPE), spectral_norm(last)]
        return nn.Sequential(*steps)

    def forward(self, looks: Sequence[Tensor]) -> list[Tensor]:
        return [head(look) for head, look in zip(self.heads, looks, strict=True)]
