"""Any objective of spatial layers on pictures larger than memory: whole maps without a graph, then its gradient tile by tile.

The maps are much smaller than what back-propagation would keep. No seam can show: the gradient is that of the whole picture.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cnnvis_cli.engine.locality.tiling import Tiled
from cnnvis_cli.engine.network.activations import IMAGES, INDEX
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.evaluate import ValueGradient
from cnnvis_cli.engine.optim.objectives import Objective
from cnnvis_cli.engine.optim.transforms import Transform


def evaluate_by_tiles(tiled: Tiled, objective: Objective, pictures: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """The objective (B,) of pictures (B, 3, H, W) and its gradient, exactly those of the whole pictures."""
    maps = {layer: tiled.maps(pictures, layer).requires_grad_() for layer in sorted(objective.layers)}
    leaf = pictures.detach().requires_grad_()
    values = objective({**maps, IMAGES: leaf, INDEX: index})
    *slopes, direct = torch.autograd.grad(values.sum(), [*maps.values(), leaf], allow_unused=True)
    gradient = tiled.pull(pictures, dict(zip(maps, slopes, strict=True)))
    return values.detach(), gradient if direct is None else gradient + direct


def value_gradient_by_tiles(
    network: Network,
    objective: Objective,
    side: int,
    *,
    transform: Transform | None = None,
    generator: torch.Generator | None = None,
) -> ValueGradient:
    """For the loop, as `synthesize.evaluator`, in tiles of about `side` pixels. UserError where a layer sees everything."""
    tiled = Tiled(network, sorted(objective.layers), side)

    def evaluate(pictures: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        if transform is None or generator is None:
            return evaluate_by_tiles(tiled, objective, pictures, index)
        leaf = pictures.detach().requires_grad_()
        seen = transform(leaf, generator)
        values, slope = evaluate_by_tiles(tiled, objective, seen.detach(), index)
        (gradient,) = torch.autograd.grad(seen, leaf, slope)
        return values, gradient

    return evaluate


@torch.no_grad()
def score_by_tiles(network: Network, objective: Objective, pictures: Tensor, side: int) -> Tensor:
    """The objective (B,) of pictures as they are."""
    tiled = Tiled(network, sorted(objective.layers), side)
    maps = {layer: tiled.maps(pictures, layer) for layer in objective.layers}
    return objective({**maps, IMAGES: pictures, INDEX: torch.arange(len(pictures))})
