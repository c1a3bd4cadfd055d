"""Directions of a layer drawn as small pictures, many at once: what activation grids and atlases are made of."""

from __future__ import annotations

import torch
from torch import Tensor

from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.evaluate import value_gradient
from cnnvis_cli.engine.optim.loop import Loop
from cnnvis_cli.engine.optim.parameterizations import Fourier
from cnnvis_cli.engine.optim.rectifiers import FIRST_STEPS
from cnnvis_cli.engine.optim.transforms import affine
from cnnvis_cli.engine.units.directions import towards
from cnnvis_cli.jobs.job import Job

# Side in pixels of a tile, where the network takes it, and tiles that are optimized at once.
SIDE, BATCH = 64, 32


def tile_side(network: Network) -> int:
    """The side nearest to `SIDE` that the network takes."""
    return network.fitted(SIDE, SIDE, None if network.fixed_size else SIDE)[0]


def draw_directions(job: Job, network: Network, layer: str, vectors: Tensor, *, steps: int, seed: int) -> Tensor:
    """A picture (N, 3, S, S) for each of `vectors` (N, C) of the layer. All start from the same noise, so that like directions
    look alike."""
    side = tile_side(network)
    made = []
    for first in range(0, len(vectors), BATCH):
        part = vectors[first : first + BATCH]
        generator = torch.Generator().manual_seed(seed)
        loop = Loop(
            image=Fourier.from_noise([seed] * len(part), side, side, device=network.device),
            evaluate=value_gradient(
                network,
                towards(layer, part),
                transform=affine(shift=side / 16, degrees=6, zoom=0.1, wrap=False),
                generator=generator,
            ),
            steps=steps,
            rate=0.07,
            generator=generator,
            passing=FIRST_STEPS,
        )
        made.append(job.loops.run(loop, f"tiles {first + len(part)}/{len(vectors)}").pictures.cpu())
    return torch.cat(made)
