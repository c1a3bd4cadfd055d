"""What an individual is: the protocol of the encodings, and the variation operators that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

# A genome is one array, so that archive, lineage and checkpoints need to know nothing of encodings. Never changed in place.
Genome: TypeAlias = np.ndarray[Any, Any]
Images: TypeAlias = np.ndarray[Any, Any]  # (N, H, W, 3) uint8, sRGB


class Encoding(Protocol):
    """A plug-in: how individuals come into being, how they vary, what they look like.

    All genomes of one encoding have the same dtype and number of dimensions. All chance comes from `rng`.
    """

    size: int
    """Side of the pictures in pixels."""
    resizable: bool
    """Whether a genome can be rendered at a size other than its own."""

    def random(self, count: int, rng: np.random.Generator) -> list[Genome]:
        """The first generation."""
        ...

    def vary(self, pairs: Sequence[tuple[Genome, Genome]], generation: int, rng: np.random.Generator) -> list[Genome]:
        """One child per pair of parents. It takes after the first of them; encodings without crossover ignore the second."""
        ...

    def render(self, genomes: Sequence[Genome], size: int | None = None) -> Images:
        """Pictures (N, size, size, 3), uint8."""
        ...


def polynomial_steps(count: int, eta: float, rng: np.random.Generator) -> np.ndarray:
    """(count,) float32 steps in [-1, 1], as shares of the range of a gene; the larger `eta`, the smaller they are.

    Polynomial mutation, Deb and Goyal 1996, "A combined genetic adaptive search (GeneAS) for engineering design".
    """
    share = rng.random(count, dtype=np.float32)
    low = (2 * np.minimum(share, 0.5)) ** np.float32(1 / (eta + 1)) - 1
    high = 1 - (2 * (1 - np.maximum(share, 0.5))) ** np.float32(1 / (eta + 1))
    return np.where(share < 0.5, low, high)


def mutate_uniformly(
    genes: np.ndarray, rate: float, eta: float, low: float, high: float, rng: np.random.Generator
) -> np.ndarray:
    """Float genes with every one mutated with chance `rate`, clipped to [low, high]."""
    chosen = rng.random(genes.shape) < rate
    genes = genes.copy()
    genes[chosen] += (high - low) * polynomial_steps(int(chosen.sum()), eta, rng)
    return genes.clip(low, high, out=genes)


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Red, green and blue (sRGB) from hue, saturation and value, all in [0, 1]; the hue goes round the circle once.

    A channel is the value less the chroma times how far it is off: not at all within a sixth of the circle from its own hue,
    wholly from a third on, linearly between. (Red's own hue is both ends of the scale: its distance is that from the middle.)
    """
    sector, chroma = hue * 6, saturation * value
    red = (sector - 3).abs_().neg_().add_(2)
    green, blue = ((sector - own).abs_().sub_(1) for own in (2, 4))
    red, green, blue = (value - off.clamp_(0, 1).mul_(chroma) for off in (red, green, blue))
    return red, green, blue


def to_uint8(values: Tensor) -> np.ndarray:
    """Values in [0, 1] rounded to 8 bits."""
    return values.mul(255).add_(0.5).to(torch.uint8).cpu().numpy()
