"""Statistics of feature maps: what style and texture are made of, and distances between them.

A statistic forgets where features are and keeps how they are distributed. All distances are divided by the target's energy,
so that 1 means "as far as nothing at all is", for every layer, size and network. Features are (B, C, H, W), weights of
positions (H, W) or None, distances (B,).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cnnvis_cli.engine.arithmetic import product

Summary = dict[str, Tensor]


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


def moments(features: Tensor, weight: Tensor | None) -> Summary:
    maps = columns(features)
    if weight is None:
        count = features.new_full((len(features),), maps.shape[2])
        return {"count": count, "first": maps.sum(2), "second": _Products.apply(maps)}
    weighted = maps * weight.flatten()
    return {"count": weight.sum().expand(len(features)), "first": weighted.sum(2), "second": weighted @ maps.mT}


def means(summary: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(B, C) mean and (B, C, C) mean of products."""
    count = summary["count"].clamp_min(1e-12)
    return summary["first"] / count[:, None], summary["second"] / count[:, None, None]


def weighted(values: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    return torch.stack([share * value for value, share in zip(values, shares, strict=True)]).sum(0)
