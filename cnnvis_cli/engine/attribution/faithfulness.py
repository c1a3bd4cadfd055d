"""Whether a heat map says the truth about a network: deletion and insertion of pixels, and randomized weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cnnvis_cli.engine.attribution.gradients import baseline
from cnnvis_cli.engine.attribution.occlusion import blurred
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.evaluate import score
from cnnvis_cli.engine.optim.objectives import Objective


@dataclass(frozen=True)
class Curves:
    """The target while pixels go or come, most important first; from the whole picture, or up to it.

    `deletion`, `insertion`: (steps + 1,), in units of the target.
    """

    deletion: Tensor
    insertion: Tensor

    @property
    def deletion_auc(self) -> float:
        """Area under the curve over the share of pixels, 0 to 1: small for a good map."""
        return float(torch.trapezoid(self.deletion)) / (len(self.deletion) - 1)

    @property
    def insertion_auc(self) -> float:
        """Large for a good map."""
        return float(torch.trapezoid(self.insertion)) / (len(self.insertion) - 1)


def deletion_insertion(
    network: Network, image: Tensor, heat: Tensor, target: Objective, *, steps: int = 24, batch: int = 25
) -> Curves:
    """Replace the pixels of an image (3, H, W) by the mean colour in the order of a heat map (H, W); and bring them back
    into the blurred picture in that order. Petsiuk, Das and Saenko 2018, section 3.2; there black instead of the mean.
    """
    rank = torch.empty(heat.numel(), device=heat.device)
    rank[heat.flatten().argsort(descending=True, stable=True)] = torch.arange(heat.numel(), device=heat.device).float()
    shares = torch.linspace(0, 1, steps + 1, device=heat.device)
    taken = rank.view(1, 1, *heat.shape) < (shares * heat.numel()).round().view(-1, 1, 1, 1)
    without, soft = baseline(network), blurred(image)
    deletion, insertion = (
        torch.cat([score(network, target, torch.where(mask, one, other)) for mask in taken.split(batch)]).cpu()
        for one, other in ((without, image), (image, soft))
    )
    return Curves(deletion, insertion)


def rivals(heat: Tensor) -> dict[str, Tensor]:
    """Maps (H, W) that say nothing of where the object is, but are as smooth and as uneven as the map itself, which a map of
    random pixels is not: the map moved by half the picture, its mirror image, and a blob in the middle, where objects often
    are.
    """
    height, width = heat.shape
    down, across = (torch.linspace(-1, 1, side, device=heat.device, dtype=heat.dtype) for side in (height, width))
    blob = torch.exp(-2 * (down[:, None].square() + across[None, :].square()))
    return {"shifted": heat.roll((height // 2, width // 2), (0, 1)), "mirrored": heat.flip(1), "centre": blob}


def weighted_layers(network: Network) -> list[str]:
    """Names of the layers that have weights, in the order in which they run."""
    return [name for name in network.layers if hasattr(network.module.get_submodule(name), "weight")]


def randomized(network: Network, generator: torch.Generator, share: float = 1.0) -> Network:
    """A copy whose last `share` of weighted layers have new weights, drawn from a normal distribution as wide as the old.

    The cascading randomization of Adebayo et al. 2018, section 3, from the logits down.
    """
    other = copy.deepcopy(network)
    for name in weighted_layers(network)[-_count(network, share) :]:
        for values in other.module.get_submodule(name).parameters(recurse=False):
            new = torch.randn(values.shape, generator=generator).to(values)
            values.data.copy_(values.mean() + new * values.std(correction=0))
    return other


def _count(network: Network, share: float) -> int:
    return max(1, round(share * len(weighted_layers(network))))


# Shares of the layers that the cascade randomizes, from the logits down; 0 for the last layer alone.
CASCADE = {"last_layer": 0.0, "quarter": 0.25, "half": 0.5, "three_quarters": 0.75, "all": 1.0}


@dataclass(frozen=True)
class Stage:
    """One stage of the cascade: the first layer whose weights are random, as all after it; the map (H, W) of that network; its
    rank correlation (-1 to 1) with the map of the trained one."""

    name: str
    layer: str
    heat: Tensor
    correlation: float


def sanity_check(
    network: Network, explain: Callable[[Network], Tensor], heat: Tensor, generator: torch.Generator
) -> list[Stage]:
    """A method's map (H, W) beside those of ever more randomized copies of the network. Adebayo et al. 2018, figure 2.

    `explain`: from a network to a map; `heat`: that of the network itself. A map that hardly changes when all weights are
    random explains the picture, not the network.
    """
    stages = []
    for name, share in CASCADE.items():
        other = explain(randomized(network, generator, share))
        first = weighted_layers(network)[-_count(network, share)]
        stages.append(Stage(name, first, other, rank_correlation(heat, other)))
    return stages


def rank_correlation(one: Tensor, other: Tensor) -> float:
    """Spearman's rank correlation of two maps' absolute values; 0 where one is constant."""
    ranks = torch.stack([values.abs().flatten().argsort().argsort().double() for values in (one, other)])
    if any(float(values.max()) == float(values.min()) for values in (one, other)):
        return 0.0
    return float(torch.corrcoef(ranks)[0, 1])
