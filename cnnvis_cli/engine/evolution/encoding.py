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


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """(..., 3) sRGB from hue, saturation and value, all in [0, 1]; the hue goes round the circle once."""
    sector = hue * 6
    chroma = saturation * value
    channels = []
    for offset in (5.0, 3.0, 1.0):  # k = (offset + sector) mod 6; the channel is value - chroma * max(0, min(k, 4 - k, 1))
        k = torch.remainder(sector + offset, 6.0)
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1))
    return torch.stack(channels, -1)


def to_uint8(values: Tensor) -> np.ndarray:
    """Values in [0, 1] rounded to 8 bits."""
    return (values * 255 + 0.5).to(torch.uint8).cpu().numpy()
