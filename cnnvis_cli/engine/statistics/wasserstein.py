"""Mean and covariance, and the Wasserstein distance of Gaussians between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cnnvis_cli.engine.statistics.base import Summary, columns, means, moments, weighted

# Eigenvalues below this fraction of the largest are noise, and drive no gradient.
FLOOR = {torch.float64: 1e-13, torch.float32: 1e-7}


class Wasserstein:
    """Squared Wasserstein-2 distance of the Gaussians with the features' mean and covariance, over the mean square of F*.

    |m - m*|^2 + tr C + tr C* - 2 tr (C*^1/2 C C*^1/2)^1/2. The last term is the sum of the square roots of the eigenvalues
    of L^T C L with C* = L L^T, or of the smaller Gram matrix over positions, which has the same ones. eigvalsh is exact and
    its gradient has no terms in gaps between eigenvalues, so equal ones do no harm (unlike square roots by eigh).
    """

    additive = True

    def summary(self, features: Tensor, weight: Tensor | None = None) -> Summary:
        return moments(features, weight)

    def target(self, summaries: Sequence[Summary], shares: Sequence[float]) -> Summary:
        means, covariances = zip(*map(_covariance, summaries), strict=True)
        mean, covariance = weighted(means, shares), weighted(covariances, shares)
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
    mean, second = means({key: value.to(precise) for key, value in summary.items()})
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
