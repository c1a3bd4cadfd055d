"""What a masker is asked for: the smallest region that keeps the class and without which it is gone (Dabkowski and Gal 2017).

    TV(m) + area(m) - log p_c(x under m) + p_c(x without m)^0.3;   for a class that is not in the picture: an empty mask

What is covered becomes a blurred version of the picture with noise, or one colour, at random, so that no filler is learned.
Nobody's labels: the class is the network's own answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.engine.generators.masker import Masker
from cnnvis_cli.engine.learning.randomness import drawn
from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.layers import OUTPUT
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.pixels import gaussian_blur

_POWER = 0.3  # of the probability that is left without the region: also small ones are to go
_OTHERS = 0.25  # share of pictures that are asked about a class which is not theirs
_BLUR = 0.1  # of the side: nothing can be recognized any more
# Area counts a quarter of its weight at first and all of it from halfway on: while nothing is learned yet, a heavy area makes
# the mask empty, from which no gradient leads back; a light one all along leaves it far larger than the object.
_LIGHT, _HEAVY_FROM = 0.25, 0.5


@dataclass(frozen=True)
class MaskingLoss:
    """`levels`: the network's layers, shallow to deep. `area`, `tv`, `gone`: weights of the mask's mean, its variation, and of
    what is left of the class without the region."""

    network: Network
    levels: Sequence[str]
    seed: int
    area: float
    tv: float
    gone: float

    def look(self, pictures: Tensor) -> tuple[list[Tensor], Tensor]:
        """Codes of the levels and logits, without gradients."""
        with torch.no_grad():
            found = activations(self.network, pictures, [*self.levels, OUTPUT])
        return [found[level] for level in self.levels], found[OUTPUT]

    def terms(self, masker: Masker, pictures: Tensor, step: int, progress: float) -> dict[str, Tensor]:
        """Weighted losses (scalars) for pictures (B, 3, H, W) in [0, 1], `progress` in [0, 1] through the training."""
        generator = drawn(self.seed, step, "mask")
        codes, logits = self.look(pictures)
        count = logits.shape[1]
        own = logits.argmax(1)
        other = torch.rand(len(pictures), generator=generator).to(own.device) < _OTHERS
        shift = torch.randint(1, max(2, count), (len(pictures),), generator=generator).to(own.device)
        classes = torch.where(other, (own + shift) % count, own)
        small = masker(codes, classes)
        masks = F.interpolate(small, size=pictures.shape[-2:], mode="bilinear", align_corners=False)
        cover = self.covers(pictures, generator)
        mine = (~other).float()
        kept = torch.log_softmax(self.network(pictures * masks + cover * (1 - masks)), 1)
        left = torch.softmax(self.network(pictures * (1 - masks) + cover * masks), 1)
        chosen = classes[:, None]
        among = mine.sum().clamp_min(1)
        return {
            "area": self.area * (_LIGHT + (1 - _LIGHT) * min(1.0, progress / _HEAVY_FROM)) * masks.mean(),
            "tv": self.tv * variation(small),
            "keep": -(kept.gather(1, chosen)[:, 0] * mine).sum() / among,
            "gone": self.gone * (left.gather(1, chosen)[:, 0].clamp_min(1e-6).pow(_POWER) * mine).sum() / among,
        }

    @staticmethod
    def covers(pictures: Tensor, generator: torch.Generator) -> Tensor:
        """What stands for the covered places of each picture."""
        side = min(pictures.shape[-2:])
        blurred = gaussian_blur(pictures, min(side - 1, round(2.5 * _BLUR * side)), _BLUR * side)
        colors = torch.rand(len(pictures), 3, 1, 1, generator=generator).to(pictures)
        plain = torch.rand(len(pictures), 1, 1, 1, generator=generator).to(pictures) < 0.5
        noisy = 0.05 * torch.randn(pictures.shape, generator=generator).to(pictures)
        return (torch.where(plain, colors.expand_as(pictures), blurred) + noisy).clamp(0, 1)


def variation(masks: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, in both directions."""
    return masks.diff(dim=2).abs().mean() + masks.diff(dim=3).abs().mean()
