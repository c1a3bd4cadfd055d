"""The picture as what a decoder makes of a code: the code is optimized, and the decoder is the image prior that was learned.

Nguyen et al. 2016 ("Synthesizing the preferred inputs for neurons in neural networks via deep generator networks"): the code is
kept between 0 and three standard deviations of those that pictures have. Theirs is of a fully connected layer; ours has places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cnnvis_cli.engine.generators.decoder import Decoder
from cnnvis_cli.engine.optim.parameterizations import noise

_DEVIATIONS = 3.0
# Deviation of the start around the mean code, in those of natural codes: enough to tell places apart.
SPREAD = 0.3


@dataclass(frozen=True)
class NaturalCodes:
    """(C,) mean and deviation of each channel over the places of natural pictures' codes, and whether none is negative."""

    mean: Tensor
    deviation: Tensor
    rectified: bool

    @classmethod
    def of(cls, codes: Tensor) -> NaturalCodes:
        """From the codes (B, C, h, w) of several pictures."""
        deviation, mean = torch.std_mean(codes, (0, 2, 3))
        return cls(mean, deviation.clamp_min(1e-6), bool((codes >= 0).all()))


class Decoded:
    """Pictures (B, 3, H, W) of codes at `level`. The parameters are codes in deviations from the natural mean."""

    def __init__(self, decoder: Decoder, level: int, natural: NaturalCodes, start: Tensor) -> None:
        """`start`: codes (B, C, h, w), as the network gives them."""
        self._decoder, self._level = decoder, level
        self._mean, self._deviation = natural.mean.view(1, -1, 1, 1), natural.deviation.view(1, -1, 1, 1)
        self._least = -self._mean / self._deviation if natural.rectified else torch.full_like(self._mean, -_DEVIATIONS)
        # Codes of a given picture may lie further out: they are the start as they are.
        self._most = torch.maximum(
            torch.full_like(self._mean, _DEVIATIONS), ((start - self._mean) / self._deviation).amax((0, 2, 3), keepdim=True)
        )
        self._code = ((start - self._mean) / self._deviation).detach().clone().contiguous().requires_grad_()

    @classmethod
    def from_noise(
        cls, decoder: Decoder, level: int, natural: NaturalCodes, seeds: Sequence[int], height: int, width: int
    ) -> Decoded:
        """Codes for pictures (H, W) around the mean, one per seed."""
        pitch = 2 ** sum(decoder.shape.doublings[: level + 1])
        channels = decoder.shape.channels[level]
        spread = SPREAD * noise(seeds, channels, -(-height // pitch), -(-width // pitch)).to(natural.mean)
        start = natural.mean.view(1, -1, 1, 1) + spread * natural.deviation.view(1, -1, 1, 1)
        image = cls(decoder, level, natural, start)
        image.project()
        return image

    def parameters(self) -> list[Tensor]:
        return [self._code]

    def __call__(self) -> Tensor:
        return self._decoder(self._code * self._deviation + self._mean, self._level).clamp(0, 1)

    @torch.no_grad()
    def project(self) -> None:
        """Into the range of natural codes."""
        self._code.copy_(torch.minimum(torch.maximum(self._code, self._least), self._most))
