"""What a decoder is asked for: to invert every level, and to bear codes that no picture has.

First each stage learns by itself from the network's true codes; then all together, from a level at random down to the picture,
which is compared by pixels and by what the network sees in it (Dosovitskiy and Brox 2016, "perceptual similarity metrics").
In a share of the steps codes get another picture's statistics on the way, as they will when styles are transferred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cnnvis_cli.engine.generators.decoder import Decoder
from cnnvis_cli.engine.learning.randomness import drawn
from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.modifications import pooled
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.statistics import Wasserstein
from cnnvis_cli.engine.statistics.transports import TRANSPORTS

# Mean square of natural pictures around their mean: a pixel error of 1 is that of a grey picture.
_PIXEL_POWER = 0.06
_PIXELS, _CODES, _SEEN, _STYLE, _KEPT = 4.0, 0.5, 1.0, 1.0, 0.5
_ALSO_ABOVE = 0.7  # probability that a level above the one it begins at is given the style's statistics too
_DEEPEST = 0.1
_RISE = 0.1  # share of the run over which the losses of the whole chain come in
_METHODS = ("transport", "transport", "adain", "wct")


@dataclass(frozen=True)
class DecodingLoss:
    """`levels`: the network's layers, shallow to deep. `stagewise`: share of the run in which stages learn by themselves;
    `transfers`: share of the steps after it in which statistics are exchanged."""

    network: Network
    levels: Sequence[str]
    seed: int
    stagewise: float = 0.7
    transfers: float = 0.5

    def codes(self, pictures: Tensor) -> list[Tensor]:
        """The network's own, shallow to deep, without gradients."""
        with torch.no_grad():
            found = activations(self.network, pictures, self.levels)
        return [found[level] for level in self.levels]

    def terms(self, decoder: Decoder, pictures: Tensor, styles: Tensor, step: int, progress: float) -> dict[str, Tensor]:
        """Weighted losses (scalars) of pictures and styles (B, 3, H, W) in [0, 1] at a step."""
        codes = self.codes(pictures)
        zero = pictures.new_zeros(())
        none = dict.fromkeys(("stages", "pixels", "seen", "style", "kept"), zero)
        terms = none | self._stages(decoder, codes, pictures)
        if progress < self.stagewise:
            return terms
        generator = drawn(self.seed, step, "level")
        # Their gradients are far larger than those of single stages: all at once they throw what has been learned over.
        rise = min(1.0, (progress - self.stagewise) / _RISE + 0.02)
        if float(torch.rand(1, generator=generator)) < self.transfers:
            found = self._transferred(decoder, pictures, codes, styles, generator)
            return terms | {name: rise * term for name, term in found.items()}
        level = int(torch.randint(0, len(self.levels), (1,), generator=generator))
        made = decoder(codes[level], level, beside=codes if decoder.shape.skips else None)
        found = {"pixels": _PIXELS * pixel_error(made, pictures), "seen": _SEEN * self._seen(made, pictures)}
        return terms | {name: rise * term for name, term in found.items()}

    def _stages(self, decoder: Decoder, codes: Sequence[Tensor], pictures: Tensor) -> dict[str, Tensor]:
        """Each stage from the true code to the true one above it."""
        total = pictures.new_zeros(())
        for level, code in enumerate(codes):
            beside = codes[level - 1] if decoder.shape.skips and level else None
            made = decoder.stage(level, code, beside)
            if level:
                total = total + _CODES * relative(made, codes[level - 1])
            else:
                total = total + _PIXELS * pixel_error(made, pictures)
        return {"stages": total}

    def _smooth(self, pictures: Tensor) -> list[Tensor]:
        """Codes through average pools. Maximum pools hear one of four pixels: a decoder that learns from them draws dots at
        every second one."""
        with pooled(self.network, "average"):
            found = activations(self.network, pictures, self.levels)
        return [found[level] for level in self.levels]

    def _seen(self, made: Tensor, pictures: Tensor) -> Tensor:
        """How differently the network sees the result, relative to the codes, mean over the levels."""
        with torch.no_grad():
            goals = self._smooth(pictures)
        return torch.stack([relative(own, goal) for own, goal in zip(self._smooth(made), goals, strict=True)]).mean()

    def _transferred(
        self, decoder: Decoder, pictures: Tensor, codes: Sequence[Tensor], styles: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """From a level at random with statistics of the styles there and at some of the levels above."""
        deep = len(self.levels) - 1  # seldom: what is painted there is mush, and eigenvalues of wide layers take their time
        level = (
            deep
            if float(torch.rand(1, generator=generator)) < _DEEPEST
            else int(torch.randint(1, max(2, deep), (1,), generator=generator))
        )
        method = TRANSPORTS[_METHODS[int(torch.randint(0, len(_METHODS), (1,), generator=generator))]]()
        taken = (torch.rand(level, generator=generator) < _ALSO_ABOVE).tolist()
        goals = self.codes(styles)

        def exchanged(code: Tensor, goal: Tensor) -> Tensor:
            return method.map(code, method.target([goal], [1.0]))(code)

        made = decoder(
            exchanged(codes[level], goals[level]),
            level,
            lambda number, code: exchanged(code, goals[number]) if taken[number] else code,
        )
        with torch.no_grad():
            wanted, here = self._smooth(styles), self._smooth(pictures)
            kept = exchanged(here[level], wanted[level])
        statistic, acts = Wasserstein(), self._smooth(made)
        style = [
            statistic.between(own, statistic.target([statistic.summary(goal)], [1.0])).clamp_min(0).log1p().mean()
            for own, goal in zip(acts[: level + 1], wanted, strict=False)
        ]
        # By logarithms, as a flat crop that is given the statistics of a rich one can be anything.
        return {"style": _STYLE * torch.stack(style).mean(), "kept": _KEPT * relative(acts[level], kept).log1p()}


def relative(made: Tensor, goal: Tensor) -> Tensor:
    """Squared error over the goal's energy, mean over the batch."""
    energy = goal.square().sum((1, 2, 3)).clamp_min(1e-8)
    return ((made - goal).square().sum((1, 2, 3)) / energy).mean()


def pixel_error(made: Tensor, pictures: Tensor) -> Tensor:
    """Mean squared error over what grey has."""
    return (made - pictures).square().mean() / _PIXEL_POWER


@torch.no_grad()
def calibrate(decoder: Decoder, codes: Sequence[Tensor]) -> None:
    """Set the scales of the levels from codes of pictures."""
    for level, code in enumerate(codes):
        decoder.scales[level] = code.square().mean().sqrt().clamp_min(1e-12)
