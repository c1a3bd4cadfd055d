"""One decoder for all depths: each stage makes the code of a level from the code of the next deeper one, the last the picture.

It inverts a network in one pass (Dosovitskiy and Brox 2016), and as every level of the network passes by on the way, statistics
can be exchanged at each (Li et al. 2017 with five networks and five rounds; in one, stage by stage: Chiu and Gurari 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnvis_cli.engine.generators.upconv import UpConv, Upsample, convolution

# (level, its code) to the code that goes on: what is done between two stages.
Between = Callable[[int, Tensor], Tensor]


@dataclass(frozen=True)
class DecoderShape:
    """What a decoder is built from. `channels` of the levels' maps, shallow to deep; `doublings`: how often each is halved
    against the level before it (the first against the picture); `rectified`: which levels are never negative; `skips`: maps of
    the network itself are given to each stage beside what comes from below (U-Net, Ronneberger et al. 2015); `blocks`: residual
    blocks of each stage before it enlarges; `outputs`: channels of the picture."""

    channels: tuple[int, ...]
    doublings: tuple[int, ...]
    rectified: tuple[bool, ...]
    upsample: Upsample = "nearest"
    skips: bool = False
    blocks: int = 1
    outputs: int = 3


class Block(nn.Module):
    """maps + what two convolutions make of them. The second looks at every other place: what is bright or coloured over a
    larger area is in the code's neighbourhood, not at one place of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels, 3)
        self.second = nn.Conv2d(channels, channels, 3, padding=2, dilation=2, padding_mode="reflect")

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.second(F.relu(self.first(maps), inplace=True))


class Stage(nn.Module):
    """From one level to the next: convolve to the other's width, enlarge as often as is needed, convolve."""

    def __init__(self, shape: DecoderShape, level: int) -> None:
        super().__init__()
        inputs, outputs = shape.channels[level], (shape.outputs, *shape.channels)[level]
        doublings, upsample = shape.doublings[level], shape.upsample
        beside = outputs if shape.skips and level else 0
        width = max(outputs, min(shape.channels))
        self.first = convolution(inputs, width, 3)
        self.blocks = nn.ModuleList(Block(width) for _ in range(shape.blocks if doublings else 0))
        ups = [UpConv(width, width, upsample) for _ in range(doublings - (beside == 0))]
        self.ups = nn.ModuleList(ups)
        # Where maps come in from the side they have the larger size, so that enlarging is over before the last convolution.
        self.enlarges = doublings > 0 and beside == 0
        last = UpConv(width, outputs, upsample) if self.enlarges else convolution(width + beside, outputs, 3)
        self.last: nn.Module = last

    def forward(self, maps: Tensor, beside: Tensor | None = None) -> Tensor:
        maps = F.relu(self.first(maps), inplace=True)  # nobody else holds a convolution's output
        for block in self.blocks:
            maps = block(maps)
        for up in self.ups:
            maps = F.relu(up(maps), inplace=True)
        if beside is not None:
            maps = torch.cat([fitted(maps, beside.shape[-2:]), beside], 1)
        return self.last(maps)


class Decoder(nn.Module):
    """Codes (B, C, h, w) of a level, as the network gives them, to pictures (B, outputs, H, W) that are not clamped.

    `scales` (levels,): the root of the mean square of each level's codes, by which they are divided inside.
    """

    scales: Tensor

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.stages = nn.ModuleList(Stage(shape, level) for level in range(len(shape.channels)))
        self.register_buffer("scales", torch.ones(len(shape.channels)))

    def stage(self, level: int, code: Tensor, beside: Tensor | None = None) -> Tensor:
        """The code of level - 1 (the picture, for 0) from that of `level`. `beside`: the network's own code of level - 1."""
        if beside is not None:
            beside = beside / self.scales[level - 1]
        made = self.stages[level](code / self.scales[level], beside)
        if level == 0:
            return made + 0.5
        made = made * self.scales[level - 1]
        return _rectified(made) if self.shape.rectified[level - 1] else made

    def forward(
        self, code: Tensor, level: int = -1, between: Between | None = None, beside: Sequence[Tensor] | None = None
    ) -> Tensor:
        """The picture from a code of `level` (the deepest). `between`: what is done to the codes on the way; `beside`: codes of
        the levels of the network itself, for a decoder with skips."""
        level = level % len(self.stages)
        for number in range(level, -1, -1):
            code = self.stage(number, code, beside[number - 1] if beside is not None and number else None)
            if number and between is not None:
                code = between(number - 1, code)
        return code


def _rectified(maps: Tensor) -> Tensor:
    """A rectifier that lets a tenth of the gradient through where it is shut: a channel that is always off learns to open."""
    if not torch.is_grad_enabled():
        return F.relu_(maps)
    below = maps.clamp_max(0)
    return F.relu(maps) + 0.1 * (below - below.detach())


def fitted(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps brought to (h, w) where they are not of it: a network whose convolutions drop borders halves no size exactly."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
