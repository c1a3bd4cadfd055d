"""Directions of a layer's channel space, each asked of a picture of its own. Olah et al. 2018; Carter et al. 2019."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.engine.network.activations import INDEX
from cnnvis_cli.engine.optim.objectives import Activations, Objective, Term


def towards(layer: str, vectors: Tensor, power: float = 2.0) -> Objective:
    """The i-th picture of a batch is asked for the i-th of `vectors` (N, C): the mean over places of the dot product with it,
    times the `power` of their cosine (at least 0.1), so that a place that answers in other directions too counts for less
    (Carter et al. 2019, "dot product times cosine similarity"). Needs `INDEX` among the activations."""
    units = F.normalize(vectors, dim=1)

    def value(acts: Activations) -> Tensor:
        maps = acts[layer].flatten(2) if acts[layer].ndim > 2 else acts[layer][:, :, None]
        wanted = units.to(maps)[acts[INDEX].to(maps.device)]
        dots = torch.einsum("bcn,bc->bn", maps, wanted)
        cosines = dots / maps.norm(dim=1).clamp_min(1e-6)
        return (dots * cosines.clamp_min(0.1).pow(power)).mean(1)

    return Objective(frozenset([layer]), value, (Term("direction", layer),))


def coarse(maps: Tensor, most: int) -> Tensor:
    """Maps (C, h, w) averaged to at most `most` places a side: (C, h', w')."""
    factor = max(1, -(-max(maps.shape[1:]) // most))
    rows, columns = (max(1, round(side / factor)) for side in maps.shape[1:])
    return F.adaptive_avg_pool2d(maps[None], (rows, columns))[0]
