"""Statistics of feature maps: what style and texture are made of, and distances between them.

A statistic forgets where features are and keeps how they are distributed. All distances are divided by the target's energy,
so that 1 means "as far as nothing at all is", for every layer, size and network. Features are (B, C, H, W), weights of
positions (H, W) or None, distances (B,).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from cnnvis_cli.engine.backend.onednn import product

Summary = dict[str, Tensor]
# Eigenvalues below this fraction of the largest are noise, and drive no gradient.
FLOOR = {torch.float64: 1e-13, torch.float32: 1e-7}


class Statistic(Protocol):
    """How features are summarized and how far a summary is from a target.

    `additive`: summaries of the parts of a picture add up to that of the whole, so that it can be worked on in tiles.
    """

    additive: bool

    def summary(self, features: Tensor, weight: Tensor | None = None) -> Summary:
        """Tensors from which the distance is computed; differentiable."""

    def target(self, summaries: Sequence[Summary], shares: Sequence[float]) -> Summary:
        """The mean of the statistics of several pictures (B = 1), with `shares` that sum to 1, prepared for `distance`."""

    def distance(self, summary: Summary, target: Summary) -> Tensor:
        """(B,) distance relative to the target's energy."""

    def between(self, features: Tensor, target: Summary, weight: Tensor | None = None) -> Tensor:
        """The same distance, from the features: the shortest way where the whole picture is at hand."""


def add(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> Summary:
    """The summary of two parts of a picture together."""
    return {key: left[key] + right[key] for key in left}


def columns(features: Tensor) -> Tensor:
    """(B, C, N) view of maps (B, C, H, W) in either memory format: a vector per position, without a copy."""
    return features.permute(0, 2, 3, 1).flatten(1, 2).mT


def smoothed(features: Tensor) -> Tensor:
    """Softmax over all channels and positions of a map, times their number: peaks of residual networks lose their sway.

    Wang, Li and Vasconcelos 2021 ("Rethinking and improving the robustness of image style transfer"). The factor, ours,
    keeps the mean at 1; it cancels in relative distances.
    """
    flat = features.flatten(1)
    return (flat.softmax(1) * flat.shape[1]).view_as(features)


class _Products(torch.autograd.Function):
    """M M^T of maps (B, C, N). Both factors are the same, so one product is the whole gradient; autograd would make two."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        ctx.save_for_backward(maps)
        return product(maps, maps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (maps,) = ctx.saved_tensors
        return product(maps.mT, gradient + gradient.mT).mT  # in the maps' own memory order: columns of vectors


def _moments(features: Tensor, weight: Tensor | None) -> Summary:
    maps = columns(features)
    if weight is None:
        count = features.new_full((len(features),), maps.shape[2])
        return {"count": count, "first": maps.sum(2), "second": _Products.apply(maps)}
    weighted = maps * weight.flatten()
    return {"count": weight.sum().expand(len(features)), "first": weighted.sum(2), "second": weighted @ maps.mT}


def _means(summary: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(B, C) mean and (B, C, C) mean of products."""
    count = summary["count"].clamp_min(1e-12)
    return summary["first"] / count[:, None], summary["second"] / count[:, None, None]


def _weighted(values: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    return torch.stack([share * value for value, share in zip(values, shares, strict=True)]).sum(0)


class Gram:
    """Gatys, Ecker and Bethge 2015: |G - G*|^2 / |G*|^2 with G = F F^T / N, the mean product of each pair of channels.

    The papers divide by a constant per layer instead.
    """

    additive = True

    def summary(self, features: Tensor, weight: Tensor | None = None) -> Summary:
        return _moments(features, weight)

    def target(self, summaries: Sequence[Summary], shares: Sequence[float]) -> Summary:
        gram = _weighted([_means(one)[1] for one in summaries], shares)
        return {"gram": gram, "energy": gram.square().sum((1, 2)).clamp_min(1e-12)}

    def distance(self, summary: Summary, target: Summary) -> Tensor:
        return (_means(summary)[1] - target["gram"]).square().sum((1, 2)) / target["energy"]

    def between(self, features: Tensor, target: Summary, weight: Tensor | None = None) -> Tensor:
        return self.distance(self.summary(features, weight), target)


class Wasserstein:
    """Squared Wasserstein-2 distance of the Gaussians with the features' mean and covariance, over the mean square of F*.

    |m - m*|^2 + tr C + tr C* - 2 tr (C*^1/2 C C*^1/2)^1/2. The last term is the sum of the square roots of the eigenvalues
    of L^T C L with C* = L L^T, or of the smaller Gram matrix over positions, which has the same ones. eigvalsh is exact and
    its gradient has no terms in gaps between eigenvalues, so equal ones do no harm (unlike square roots by eigh).
    """

    additive = True

    def summary(self, features: Tensor, weight: Tensor | None = None) -> Summary:
        return _moments(features, weight)

    def target(self, summaries: Sequence[Summary], shares: Sequence[float]) -> Summary:
        means, covariances = zip(*map(_covariance, summaries), strict=True)
        mean, covariance = _weighted(means, shares), _weighted(covariances, shares)
        with one_thread():
            values, vectors = torch.linalg.eigh(covariance)
        rank = max(1, int((values > values[..., -1:] * FLOOR[values.dtype]).sum()))
        root = vectors[..., -rank:] * values[..., None, -rank:].clamp_min(0).sqrt()
        trace = values.clamp_min(0).sum(-1)
        energy = (mean.square().sum(1) + trace).clamp_min(1e-12)
        return {"mean": mean, "root": root, "trace": trace, "energy": energy}

    def distance(self, summary: Summary, target: Summary) -> Tensor:
        mean, covariance = _covariance(summary)
        trace = covariance.diagonal(dim1=1, dim2=2).sum(1)
        overlap = _Overlap.apply(covariance, target["root"])
        return self._distance(mean, trace, overlap, target, summary["first"].dtype)

    def between(self, features: Tensor, target: Summary, weight: Tensor | None = None) -> Tensor:
        positions = features.shape[2] * features.shape[3]
        if weight is not None or positions >= target["root"].shape[2]:
            return self.distance(self.summary(features, weight), target)
        maps = columns(features).to(target["root"].dtype)
        mean = maps.mean(2)
        centred = (maps - mean[:, :, None]) / positions**0.5
        across = target["root"].mT @ centred
        return self._distance(mean, centred.square().sum((1, 2)), trace_sqrt(across.mT @ across), target, features.dtype)

    @staticmethod
    def _distance(mean: Tensor, trace: Tensor, overlap: Tensor, target: Summary, dtype: torch.dtype) -> Tensor:
        shift = (mean - target["mean"]).square().sum(1)
        return ((shift + trace + target["trace"] - 2 * overlap) / target["energy"]).to(dtype)


def _covariance(summary: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and covariance in float64 (float32 on MPS, which has no other): roots double the relative error."""
    precise = torch.float32 if summary["first"].device.type == "mps" else torch.float64
    mean, second = _means({key: value.to(precise) for key, value in summary.items()})
    return mean, second - mean[:, :, None] * mean[:, None, :]


@contextmanager
def one_thread() -> Iterator[None]:
    """For eigenvalues of matrices of a layer's channels: on two threads they took two to seven times as long as on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def trace_sqrt(matrices: Tensor) -> Tensor:
    """(B,) trace of the square root of positive semidefinite matrices (B, n, n); NaN where a matrix is not finite.

    sqrt(v + f) - sqrt(f) stands for the root of an eigenvalue v, with f a FLOOR times the largest: bounded gradients.
    """
    try:
        with one_thread():
            values = torch.linalg.eigvalsh((matrices + matrices.mT) / 2)
    except torch.linalg.LinAlgError:
        return matrices.sum((1, 2)) * torch.nan
    roots, least = _roots(values)
    return (roots - least).sum(1)


def _roots(values: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(v + f) of eigenvalues v (B, n) in rising order, and sqrt(f) (B, 1)."""
    values = values.clamp_min(0)
    floor = (FLOOR[values.dtype] * values[:, -1:]).detach().clamp_min(1e-30)
    return (values + floor).sqrt(), floor.sqrt()


class _Overlap(torch.autograd.Function):
    """`trace_sqrt` of L^T C L for covariances C (B, C, C) and roots L (1, C, r). Its gradient with respect to C is P P^T with
    P = L V diag(v + f)^-1/4 / sqrt(2): two products, where autograd makes three and more."""

    @staticmethod
    def forward(ctx: Any, covariance: Tensor, root: Tensor) -> Tensor:
        matrices = root.mT @ covariance @ root
        if not ctx.needs_input_grad[0]:
            return trace_sqrt(matrices)
        try:
            with one_thread():
                values, vectors = torch.linalg.eigh((matrices + matrices.mT) / 2)
        except torch.linalg.LinAlgError:
            ctx.save_for_backward(covariance * torch.nan)
            return matrices.sum((1, 2)) * torch.nan
        roots, least = _roots(values)
        slopes = torch.where(values > 0, 0.5 / roots, 0)
        ctx.save_for_backward(root @ (vectors * slopes.sqrt()[:, None, :]))
        return (roots - least).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (factor,) = ctx.saved_tensors
        return gradient[:, None, None] * (factor @ factor.mT), None


class Sliced:
    """Sliced Wasserstein-2 distance: sorted projections on random directions against the target's, relative to their energy.

    Heitz et al. 2021 ("A sliced Wasserstein loss for neural texture synthesis"). Directions are orthonormal in groups of C.
    With a generator they are drawn anew at every call, as in the paper; without, they stay the same (L-BFGS wants that).
    Weights of positions count as present from one half on.
    """

    additive = False

    def __init__(self, seed: int = 0, directions: int | None = None, generator: torch.Generator | None = None) -> None:
        self._seed, self._count, self._generator = seed, directions, generator

    def directions(self, channels: int, device: torch.device) -> Tensor:
        """(K, C) unit vectors; K is the number of channels unless another was asked for."""
        generator = self._generator or torch.Generator().manual_seed(self._seed)
        count = self._count or channels
        groups = [torch.linalg.qr(torch.randn(channels, channels, generator=generator)).Q for _ in range(-(-count // channels))]
        return torch.cat(groups)[:count].to(device)

    def summary(self, features: Tensor, weight: Tensor | None = None) -> Summary:
        maps = columns(features)
        return {"maps": maps if weight is None else maps[:, :, weight.flatten() >= 0.5]}

    def target(self, summaries: Sequence[Summary], shares: Sequence[float]) -> Summary:
        energy = _weighted([one["maps"].square().sum(1).mean(1) for one in summaries], shares)
        prepared = {f"maps{i}": one["maps"] for i, one in enumerate(summaries)}
        return prepared | {"shares": torch.tensor(list(shares)), "energy": energy.clamp_min(1e-12)}

    def distance(self, summary: Summary, target: Summary) -> Tensor:
        maps = summary["maps"]
        if maps.shape[2] == 0:
            return maps.sum((1, 2))
        directions = self.directions(maps.shape[1], maps.device).to(maps)
        sorted_maps = (directions @ maps).sort(2).values
        goal = sum(
            share * quantiles((directions @ target[f"maps{i}"]).sort(2).values, maps.shape[2])
            for i, share in enumerate(target["shares"].tolist())
        )
        return (sorted_maps - goal).square().mean((1, 2)) * maps.shape[1] / target["energy"]

    def between(self, features: Tensor, target: Summary, weight: Tensor | None = None) -> Tensor:
        return self.distance(self.summary(features, weight), target)


def quantiles(ordered: Tensor, count: int) -> Tensor:
    """Sorted samples (B, K, M) of a distribution as `count` equally likely samples (B, K, count): its quantile function."""
    if ordered.shape[2] == count:
        return ordered
    return F.interpolate(ordered, size=count, mode="linear", align_corners=False)


STATISTICS: dict[str, type[Gram] | type[Wasserstein] | type[Sliced]] = {
    "gram": Gram,
    "wasserstein": Wasserstein,
    "sliced": Sliced,
}
