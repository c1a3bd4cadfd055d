"""What the loop asks of an objective: values and their gradient with respect to the pictures."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.crops import Crops
from cnnvis_cli.engine.optim.objectives import Objective
from cnnvis_cli.engine.optim.transforms import Transform


class ValueGradient(Protocol):
    """Pictures (B, 3, H, W) and their places in the whole batch (B,) to values (B,) and the gradient of their sum."""

    def __call__(self, pictures: Tensor, index: Tensor) -> tuple[Tensor, Tensor]: ...


def value_gradient(
    network: Network,
    objective: Objective,
    *,
    transform: Transform | None = None,
    crops: Crops | None = None,
    generator: torch.Generator | None = None,
) -> ValueGradient:
    """The plain way to evaluate: one forward pass as deep as the objective reads, one backward pass to the pictures. With
    `crops` a picture's value is the mean over crops of it."""

    def evaluate(pictures: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        leaf = pictures.detach().requires_grad_()
        seen = leaf if transform is None or generator is None else transform(leaf, generator)
        if crops is not None and generator is not None:
            places = index.repeat_interleave(crops.count)
            found = objective(activations(network, crops(seen, generator), objective.layers, index=places))
            values = found.view(len(pictures), crops.count).mean(1)
        else:
            values = objective(activations(network, seen, objective.layers, index=index))
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
        return values.detach(), gradient

    return evaluate


@torch.no_grad()
def score(network: Network, objective: Objective, pictures: Tensor) -> Tensor:
    """The objective (B,) of given pictures as they are: what the score of a saved file is made of."""
    return objective(activations(network, pictures, objective.layers))
