"""Activations at named layers. The forward pass ends at the deepest layer that was asked for, in any module."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from cnnvis_cli.engine.network.layers import OutOfPlace, hooked, tensor_of
from cnnvis_cli.engine.network.network import Network

# Keys among the activations that name no layer: the pictures themselves, and the place of each in the whole batch (B,).
IMAGES = "<images>"
INDEX = "<index>"


class _Reached(Exception):
    """Ends a forward pass whose remaining layers nobody asked for."""


def activations(network: Network, images: Tensor, layers: Iterable[str], *, index: Tensor | None = None) -> dict[str, Tensor]:
    """Outputs of the named layers for images (B, 3, H, W), sRGB in [0, 1]; the pictures themselves under `IMAGES`.

    `index` (B,) says which pictures of a larger batch these are (default: all), and stands under `INDEX`.

    Keys are the names as asked for (an alias stays an alias). Values are float32 and differentiable with respect to
    `images`. A layer that is called several times gives its last output. Raises UserError for an unknown layer.
    """
    wanted = {name: network.layer(name) for name in layers}
    found: dict[str, Tensor] = {}
    given = {IMAGES: images, INDEX: torch.arange(len(images)) if index is None else index}
    if not wanted:
        return given
    missing = {layer.name: layer.calls for layer in wanted.values()}
    children = dict(network.module.named_modules())
    names = {children[name]: name for name in missing}

    def hook(child: nn.Module, inputs: Any, output: Any) -> Any:
        name = names[child]
        missing[name] -= 1
        found[name] = tensor_of(output)  # type: ignore[assignment]
        if not any(count > 0 for count in missing.values()):
            raise _Reached
        # What follows may change it in place, as in ResNets (`out += identity`): it gets a copy.
        return output.clone() if isinstance(output, Tensor) else None

    with hooked(dict.fromkeys(names, hook)), OutOfPlace(), network.arithmetic(), suppress(_Reached):
        network.module(network.normalize(images))
    return given | {name: found[layer.name].float() for name, layer in wanted.items()}


def penultimate(network: Network) -> str:
    """The layer whose output the last layer with weights (the classifier) reads: a picture's features, in common terms."""
    modules = dict(network.module.named_modules())
    names = list(network.layers)
    weighted = [i for i, name in enumerate(names) if isinstance(modules[name], nn.Conv2d | nn.Linear)]
    return names[max(0, weighted[-1] - 1)] if weighted else names[-1]


@torch.no_grad()
def feature_vectors(network: Network, images: Tensor, layer: str) -> Tensor:
    """(B, C): the layer's output for images (B, 3, H, W); of maps, the mean over places."""
    maps = activations(network, images, [layer])[layer]
    if maps.ndim == 4:
        return maps.mean((2, 3))
    return maps.flatten(1)


def middle_layer(network: Network) -> str:
    """The middle one of the layers with maps."""
    spatial = [name for name, layer in network.layers.items() if layer.spatial]
    return spatial[len(spatial) // 2] if spatial else next(iter(network.layers))
