"""An object's mask in one pass: Dabkowski and Gal 2017, "Real time image saliency for black box classifiers".

A U-Net over the frozen network's own maps (Ronneberger et al. 2015), gated at its deepest by the class that is asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnvis_cli.engine.generators.decoder import fitted
from cnnvis_cli.engine.generators.upconv import UpConv, convolution


@dataclass(frozen=True)
class MaskerShape:
    """`channels` of the network's levels, shallow to deep; `width` of the U-Net's own maps; `classes` of the network."""

    channels: tuple[int, ...]
    classes: int
    width: int = 48


class Masker(nn.Module):
    """Codes of all levels, shallow to deep, and classes (B,) to masks (B, 1, h, w) in [0, 1] at the shallowest's size."""

    scales: Tensor

    def __init__(self, shape: MaskerShape) -> None:
        super().__init__()
        self.shape, width = shape, shape.width
        self.asked = nn.Embedding(shape.classes, shape.channels[-1])
        self.sides = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in shape.channels)
        self.deep = convolution(width, width, 3)
        self.ups = nn.ModuleList(UpConv(width, width, "bilinear") for _ in shape.channels[1:])
        self.joins = nn.ModuleList(convolution(2 * width, width, 3) for _ in shape.channels[1:])
        self.last = convolution(width, 1, 3)
        self.register_buffer("scales", torch.ones(len(shape.channels)))
        nn.init.normal_(self.asked.weight, std=shape.channels[-1] ** -0.5)

    def forward(self, codes: Sequence[Tensor], classes: Tensor) -> Tensor:
        codes = [code / scale for code, scale in zip(codes, self.scales, strict=True)]
        gate = (codes[-1] * self.asked(classes)[:, :, None, None]).sum(1, keepdim=True).sigmoid()
        maps = F.relu(self.deep(F.relu(self.sides[-1](codes[-1] * gate))))
        for number in range(len(codes) - 2, -1, -1):
            beside = F.relu(self.sides[number](codes[number]))
            maps = fitted(F.relu(self.ups[number](maps)), beside.shape[-2:])
            maps = F.relu(self.joins[number](torch.cat([maps, beside], 1)))
        return self.last(maps).sigmoid()
