"""The whole distribution of features along random directions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.engine.statistics.base import Summary, columns, weighted


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
        energy = weighted([one["maps"].square().sum(1).mean(1) for one in summaries], shares)
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
