"""How much each feature map of a layer matters to what the layers after it make of a picture, and what pruning the least costs.

Inversion without a map shows what it carried (Mahendran and Vedaldi 2015, section 6); maps that matter least can be pruned.
A map is removed by setting it to zero; the network's weights stay untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.layers import OUTPUT, hooked, tensor_of
from cnnvis_cli.engine.network.network import Network


@contextmanager
def masked(network: Network, layer: str, masks: Tensor) -> Iterator[None]:
    """Inside the block, this layer's output is multiplied by `masks` (K, C), one row for each picture of the batch.

    K must be 1 or the batch size; a batch of one picture becomes one of K there. Undone also on exceptions.
    """
    entry = network.layer(layer)
    module = network.module.get_submodule(entry.name)
    left = entry.calls

    def hook(child: nn.Module, inputs: Any, output: Any) -> Any:
        nonlocal left
        left -= 1
        if left > 0:  # a shared module: only its last call is the layer
            return output
        left = entry.calls
        tensor = tensor_of(output)
        if not isinstance(output, Tensor) or tensor is None:
            raise UserError(f"layer {layer!r} of {network.name} gives no single tensor; channels cannot be removed there.")
        return entry.layout.mask(tensor, masks)

    with hooked({module: hook}):
        yield


def following_layer(network: Network, layer: str, following: str | None = None) -> str:
    """The layer whose code is compared: `following`, or what the network returns. UserError where it comes before `layer`."""
    name = OUTPUT if following is None else following
    if network.layer(name).order <= network.layer(layer).order:
        raise UserError(f"layer {name!r} does not come after {layer!r}: choose a following layer further up.")
    return name


@torch.no_grad()
def codes_without(network: Network, picture: Tensor, layer: str, following: str, masks: Tensor) -> Tensor:
    """Codes (K, ...) of the following layer for one picture (1, 3, H, W) under each of `masks` (K, C) of `layer`.

    What lies before the layer runs once, unless a connection around it needs the batch at its full size.
    """
    try:
        with masked(network, layer, masks):
            code = activations(network, picture, [following])[following]
        if len(code) == len(masks):
            return code
    except RuntimeError:  # a concatenation of branches with different batch sizes
        pass
    with masked(network, layer, masks):
        return activations(network, picture.expand(len(masks), -1, -1, -1), [following])[following]


@torch.no_grad()
def channel_importance(
    network: Network, pictures: Tensor, layer: str, following: str | None = None, *, batch: int = 32
) -> Tensor:
    """(B, C) normalised distance |Phi0 - Phi_c|^2 / |Phi0|^2 between the codes of the following layer with all maps of
    `layer` and with map c removed, for pictures (B, 3, H, W). Zero for a map that is silent on the picture."""
    name = following_layer(network, layer, following)
    channels = network.layer(layer).channels
    rows = []
    for picture in pictures.split(1):
        code = activations(network, picture, [name])[name]
        masks = 1 - torch.eye(channels, device=picture.device)
        distances = [
            (codes_without(network, picture, layer, name, part) - code).flatten(1).square().sum(1)
            for part in masks.split(batch)
        ]
        rows.append(torch.cat(distances) / code.square().sum().clamp_min(1e-12))
    return torch.stack(rows)


@dataclass(frozen=True)
class PruningCurve:
    """Accuracy by fraction of a layer's maps removed: the least important first, and `random` ones (draws, fractions)."""

    fractions: tuple[float, ...]
    removed: tuple[int, ...]
    least: Tensor
    random: Tensor


def pruning_curve(
    network: Network,
    pictures: Tensor,
    labels: Tensor,
    layer: str,
    importance: Tensor,
    fractions: Sequence[float],
    *,
    draws: int = 5,
    generator: torch.Generator,
    batch: int = 32,
    on_step: Callable[[], None] = lambda: None,
) -> PruningCurve:
    """Top-1 accuracy on pictures (B, 3, H, W) with class indices `labels` (B,) as maps of `layer` go.

    `importance` (C,): the least goes first. `fractions` of C in [0, 1]. `draws` random orders stand against it.
    `on_step` is called after each of the (1 + draws) * len(fractions) measurements.
    """
    channels = len(importance)
    removed = [round(fraction * channels) for fraction in fractions]
    orders = [importance.argsort()] + [torch.randperm(channels, generator=generator) for _ in range(draws)]

    def accuracy(gone: Tensor) -> float:
        mask = torch.ones(1, channels)
        mask[0, gone] = 0
        with masked(network, layer, mask), torch.no_grad():
            found = [network(part).argmax(1).cpu() for part in pictures.split(batch)]
        return (torch.cat(found) == labels.cpu()).float().mean().item()

    whole = accuracy(orders[0][:0])
    curves = torch.zeros(len(orders), len(removed))
    for row, order in enumerate(orders):
        for column, count in enumerate(removed):
            curves[row, column] = accuracy(order[:count]) if count else whole
            on_step()
    return PruningCurve(tuple(fractions), tuple(removed), curves[0], curves[1:])
