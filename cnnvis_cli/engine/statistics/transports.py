"""Maps of features that bring their statistics to a target's, in closed form: the mirror of the statistics.

What `style` lowers step by step a transport brings to zero at once, at the level where it is applied. AdaIN (Huang and Belongie
2017) exchanges mean and deviation of each channel, WCT (Li et al. 2017) and optimal transport (Lu et al. 2019) the covariance
too, a histogram (here: sorting, as in Zhang et al. 2022) each channel's whole distribution. Features are (B, C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cnnvis_cli.engine.statistics.base import Summary, columns, weighted
from cnnvis_cli.engine.statistics.sliced import quantiles
from cnnvis_cli.engine.statistics.wasserstein import one_thread

Map = Callable[[Tensor], Tensor]
# Eigenvalues below this share of the largest are no directions that features have: noise of float32 would be blown up.
_RANK = 1e-7
_RANK_OF_PRODUCT = 1e-12  # of two covariances, in float64
_CHUNK = 1 << 14  # positions whose products are summed at once in float64
_MOST_QUANTILES = 1 << 16


class Transport(Protocol):
    """`additive`: what is needed of the features adds up over the parts of a picture."""

    additive: bool

    def target(self, features: Sequence[Tensor], shares: Sequence[float]) -> Summary:
        """From the features of several pictures (B = 1), with shares that sum to 1."""

    def map(self, features: Tensor, target: Mapping[str, Tensor], weight: Tensor | None = None) -> Map:
        """What to do to the features. `weight` (H, W): only these positions count for the statistics."""


def precise_moments(features: Tensor, weight: Tensor | None = None, *, products: bool = True) -> Summary:
    """Count, sums and sums of products of vectors at positions, in float64: to be added up over parts of a picture.

    `products`: (B, C, C) of all pairs of channels; else (B, C) of each with itself."""
    maps = columns(features)
    exact = torch.float32 if features.device.type == "mps" else torch.float64
    channels = maps.shape[1]
    first = maps.new_zeros(len(maps), channels, dtype=exact)
    second = maps.new_zeros(len(maps), channels, channels if products else 1, dtype=exact)
    count = maps.new_zeros(len(maps), dtype=exact)
    flat = None if weight is None else weight.flatten().to(exact)
    for start in range(0, maps.shape[2], _CHUNK):
        part = maps[:, :, start : start + _CHUNK].to(exact)
        share = part if flat is None else part * flat[start : start + _CHUNK]
        # as a product: sums along maps whose channels lie together in memory take longer than the covariance
        ones = part.new_ones(part.shape[2], 1)
        first += (share @ ones)[:, :, 0]
        second += share @ part.mT if products else (share * part) @ ones
        count += part.shape[2] if flat is None else flat[start : start + _CHUNK].sum()
    return {"count": count, "first": first, "second": second if products else second[:, :, 0]}


def mean_covariance(summary: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(B, C) mean and (B, C, C) covariance; (B, C) variance of moments without products."""
    count = summary["count"].clamp_min(1e-12)
    mean = summary["first"] / count[:, None]
    if summary["second"].ndim == 2:
        return mean, summary["second"] / count[:, None] - mean.square()
    covariance = summary["second"] / count[:, None, None] - mean[:, :, None] * mean[:, None, :]
    return mean, (covariance + covariance.mT) / 2


@dataclass(frozen=True)
class Affine:
    """x -> matrix x + offset at every position: a convolution of 1 x 1. `matrix` (B, C, C), or (B, C) of a diagonal."""

    matrix: Tensor
    offset: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        matrix, offset = self.matrix.to(features), self.offset.to(features)
        if matrix.ndim == 2:
            return torch.addcmul(offset[:, :, None, None], features, matrix[:, :, None, None])
        # a sum of vectors at positions, in the features' own memory order
        moved = (features.permute(0, 2, 3, 1) @ matrix.mT[:, None]).add_(offset[:, None, None])
        return moved.permute(0, 3, 1, 2)


class _Gaussian:
    """Those that know mean and covariance only."""

    additive = True
    products = True  # whether correlations of channels count

    def moments(self, features: Tensor, weight: Tensor | None = None) -> Summary:
        return precise_moments(features, weight, products=self.products)

    def target(self, features: Sequence[Tensor], shares: Sequence[float]) -> Summary:
        means, covariances = zip(*(mean_covariance(self.moments(one)) for one in features), strict=True)
        return {"mean": weighted(means, shares), "covariance": weighted(covariances, shares)}

    def map(self, features: Tensor, target: Mapping[str, Tensor], weight: Tensor | None = None) -> Map:
        return self.affine(self.moments(features.detach(), weight), target)

    def affine(self, summary: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Affine:
        """The map for features with these `moments`."""
        mean, covariance = mean_covariance(summary)
        with one_thread(), torch.no_grad():
            matrix = self.matrix(covariance, target["covariance"])
        moved = matrix * mean if matrix.ndim == 2 else (matrix @ mean[:, :, None])[:, :, 0]
        return Affine(matrix, target["mean"] - moved)

    def matrix(self, source: Tensor, goal: Tensor) -> Tensor:
        raise NotImplementedError


class AdaIN(_Gaussian):
    """Mean and standard deviation of each channel by itself: correlations stay the content's."""

    products = False

    def matrix(self, source: Tensor, goal: Tensor) -> Tensor:
        before, after = source.clamp_min(0), goal.clamp_min(0)
        least = _RANK * before.amax(1, keepdim=True).clamp_min(1e-30)
        return torch.where(before > least, (after / before.clamp_min(least)).sqrt(), 0.0)


def spectrum(matrices: Tensor, rank: float = _RANK) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues (B, n), vectors (B, n, n), and which of the values count (B, n)."""
    values, vectors = torch.linalg.eigh(matrices)
    return values.clamp_min(0), vectors, values > rank * values[:, -1:].clamp_min(1e-30)


class WCT(_Gaussian):
    """Whiten, then colour: with symmetric roots (ZCA) where both have full rank.

    Where they have not, the two bases are brought together by the rotation that changes least: plain roots would lose what
    lies outside the content's own directions.
    """

    def matrix(self, source: Tensor, goal: Tensor) -> Tensor:
        values, vectors, there = spectrum(source)
        whiten = vectors * torch.where(there, values.clamp_min(1e-30).rsqrt(), 0.0)[:, None]
        wanted, axes, asked = spectrum(goal)
        color = axes * torch.where(asked, wanted.sqrt(), 0.0)[:, None]
        overlap = asked.to(values)[:, :, None] * (axes.mT @ vectors) * there.to(values)[:, None, :]
        left, _, right = torch.linalg.svd(overlap)
        return color @ (left @ right) @ whiten.mT


class OptimalTransport(_Gaussian):
    """The map of Gaussians that moves features least: L (L^T C L)^-1/2 L^T for the target's covariance L L^T."""

    def matrix(self, source: Tensor, goal: Tensor) -> Tensor:
        wanted, axes, asked = spectrum(goal)
        root = axes * torch.where(asked, wanted.sqrt(), 0.0)[:, None]
        values, vectors, there = spectrum(root.mT @ source @ root, _RANK_OF_PRODUCT)
        turned = root @ vectors
        return turned * torch.where(there, values.clamp_min(1e-30).rsqrt(), 0.0)[:, None] @ turned.mT


class Histogram:
    """Each channel's values in their order become the target's values in theirs: exact matching by sorting.

    Equal values (the many zeros of rectified maps) are put in an order at random: in reading order they would draw bands.
    """

    additive = False

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def target(self, features: Sequence[Tensor], shares: Sequence[float]) -> Summary:
        count = min(_MOST_QUANTILES, max(one.shape[2] * one.shape[3] for one in features))
        return {"quantiles": weighted([quantiles(columns(one).sort(2).values, count) for one in features], shares)}

    def map(self, features: Tensor, target: Mapping[str, Tensor], weight: Tensor | None = None) -> Map:
        chosen = None if weight is None else weight.flatten() >= 0.5
        wanted, seed = target["quantiles"], self._seed

        def matched(given: Tensor) -> Tensor:
            maps = columns(given)
            part = maps if chosen is None else maps[:, :, chosen]
            if part.shape[2] == 0:
                return given
            mixed = torch.randperm(part.shape[2], generator=torch.Generator().manual_seed(seed)).to(part.device)
            order = mixed[part.detach()[:, :, mixed].sort(dim=2, stable=True).indices]
            goal = quantiles(wanted.to(part), part.shape[2]).expand_as(part)
            found = torch.empty_like(part).scatter(2, order, goal)
            if chosen is not None:
                found = maps.clone().masked_scatter(chosen, found)
            return found.reshape(given.shape)

        return matched


TRANSPORTS: dict[str, type[AdaIN] | type[WCT] | type[OptimalTransport] | type[Histogram]] = {
    "adain": AdaIN,
    "wct": WCT,
    "transport": OptimalTransport,
    "histogram": Histogram,
}


def blended(features: Tensor, moved: Tensor, strength: float) -> Tensor:
    """A `strength` of the way from the features to what a map made of them; 0: the features themselves, to the bit."""
    if strength == 0:
        return features
    return moved if strength == 1 else torch.lerp(features, moved, strength)
