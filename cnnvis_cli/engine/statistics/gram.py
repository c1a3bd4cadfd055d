"""Mean products of pairs of channels: the statistic of the first style transfer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from cnnvis_cli.engine.statistics.base import Summary, means, moments, weighted


class Gram:
    """Gatys, Ecker and Bethge 2015: |G - G*|^2 / |G*|^2 with G = F F^T / N, the mean product of each pair of channels.

    The papers divide by a constant per layer instead.
    """

    additive = True

    def summary(self, features: Tensor, weight: Tensor | None = None) -> Summary:
        return moments(features, weight)

    def target(self, summaries: Sequence[Summary], shares: Sequence[float]) -> Summary:
        gram = weighted([means(one)[1] for one in summaries], shares)
        return {"gram": gram, "energy": gram.square().sum((1, 2)).clamp_min(1e-12)}

    def distance(self, summary: Summary, target: Summary) -> Tensor:
        return (means(summary)[1] - target["gram"]).square().sum((1, 2)) / target["energy"]

    def between(self, features: Tensor, target: Summary, weight: Tensor | None = None) -> Tensor:
        return self.distance(self.summary(features, weight), target)
