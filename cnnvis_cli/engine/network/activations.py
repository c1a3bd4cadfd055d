"""Activations at named layers. The forward pass ends at the deepest layer that was asked for, in any module."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.network.layers import OUTPUT, OutOfPlace, hooked, tensor_of
from cnnvis_cli.engine.network.network import Network

# Keys among the activations that name no layer: the pictures themselves, and the place of each in the whole batch (B,).
IMAGES = "<images>"
INDEX = "<index>"
RAW = "<raw> "


class _Reached(Exception):
    """Ends a forward pass whose remaining layers nobody asked for."""


def activations(
    network: Network, images: Tensor, layers: Iterable[str], *, index: Tensor | None = None, raw: Iterable[str] = ()
) -> dict[str, Tensor]:
    """Outputs of the named layers for images (B, 3, H, W), sRGB in [0, 1]; the pictures themselves under `IMAGES`.

    `index` (B,) says which pictures of a larger batch these are (default: all), and stands under `INDEX`.

    Keys are the names as asked for (an alias stays an alias). Values are float32 and differentiable with respect to
    `images`: (B, C, h, w) of maps and of tokens that are patches, however the network lays them; (B, C, N) of sequences that
    are no grid, (B, C) of vectors. `OUTPUT` is what the network returns, as class scores (B, classes). A layer that is called
    several times gives its last output. Raises UserError for an unknown layer, SizeError for a size
    that the network does not take. `raw`: those of the layers whose output is also
    wanted as the module gave it, under `RAW` and the name: what comes after it is differentiable with respect to that.
    """
    asked = list(layers)
    wanted = {name: network.layer(name) for name in asked if name != OUTPUT}
    found: dict[str, Tensor] = {}
    given = {IMAGES: images, INDEX: torch.arange(len(images)) if index is None else index}
    if not asked:
        return given
    if not wanted:
        return given | {OUTPUT: network(images)}
    through = OUTPUT in asked  # what it returns is asked for: the pass goes to the end
    missing = {layer.name: layer.calls for layer in wanted.values()}
    as_given = {network.layer(name).name: RAW + name for name in raw}
    lie = {layer.name: layer.layout for layer in wanted.values()}
    children = dict(network.module.named_modules())
    names = {children[name]: name for name in missing}
    size = images.shape[2], images.shape[3]

    def hook(child: nn.Module, inputs: Any, output: Any) -> Any:
        name = names[child]
        missing[name] -= 1
        tensor = tensor_of(output)
        if tensor is not None:
            if name in as_given:
                found[as_given[name]] = tensor
            found[name] = lie[name].canonical(tensor, len(images), size)
        if not through and not any(count > 0 for count in missing.values()):
            raise _Reached
        # What follows may change it in place, as in ResNets (`out += identity`): it gets a copy.
        return output.clone() if isinstance(output, Tensor) else None

    with network.told(*size), hooked(dict.fromkeys(names, hook)), OutOfPlace(), network.arithmetic(), suppress(_Reached):
        returned = network.module(network.normalize(images))
    unseen = [name for name, layer in wanted.items() if layer.name not in found]
    if unseen:
        raise UserError(f"{network.name} does not come to its layer {unseen[0]} on this picture.")
    result = given | {name: found[layer.name].float() for name, layer in wanted.items()}
    result |= {key: found[key] for key in as_given.values()}
    return result | {OUTPUT: network.reading(returned)} if through else result


def penultimate(network: Network) -> str:
    """The layer whose output the last layer with weights (the classifier) reads: a picture's features, in common terms."""
    modules = dict(network.module.named_modules())
    names = list(network.layers)
    weighted = [i for i, name in enumerate(names) if isinstance(modules[name], nn.Conv2d | nn.Linear)]
    return names[max(0, weighted[-1] - 1)] if weighted else names[-1]


@torch.no_grad()
def feature_vectors(network: Network, images: Tensor, layer: str) -> Tensor:
    """(B, C): the layer's output for images (B, 3, H, W); of maps and sequences, the mean over places."""
    maps = activations(network, images, [layer])[layer]
    return maps.flatten(2).mean(2) if maps.ndim > 2 else maps


def middle_layer(network: Network) -> str:
    """The middle one of the layers with maps."""
    spatial = [name for name, layer in network.layers.items() if layer.spatial]
    return spatial[len(spatial) // 2] if spatial else next(iter(network.layers))


# Modules that change each value by itself, as rectifiers do.
_POINTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.SiLU, nn.GELU, nn.Mish, nn.ELU, nn.CELU, nn.SELU, nn.LeakyReLU),
    *(nn.Softplus, nn.Sigmoid, nn.Tanh, nn.Hardsigmoid),
)


@torch.no_grad()
def rectified_layer(network: Network, layer: str, images: Tensor) -> str:
    """The layer that rectifies what the named one gives, where one of the next few does; else the named one itself.

    Told by the numbers on images (B, 3, H, W): a rectifier that follows a sum with a shortcut rectifies something else.
    """
    modules = dict(network.module.named_modules())
    known = network.layer(layer)
    after = [other for other in network.layers.values() if other.order > known.order and other.shape == known.shape]
    names = [other.name for other in after if isinstance(modules[other.name], _POINTWISE)][:2]
    if not names:
        return layer
    acts = activations(network, images, {layer, *names})
    for name in names:
        if torch.allclose(modules[name](acts[layer]), acts[name], atol=1e-4, rtol=1e-3):
            return name
    return layer


@torch.no_grad()
def before_rectifier(network: Network, layer: str, channel: int, images: Tensor) -> tuple[str, int]:
    """The layer and channel whose output is rectified into this one, among those shortly before it, as the numbers on images
    (B, 3, H, W) tell: also where branches are put side by side after they were rectified. Itself where there is none."""
    known = network.layer(layer)
    earlier = [other.name for other in network.layers.values() if other.order < known.order and other.spatial]
    names = [name for name in earlier if network.layers[name].shape[1:] == known.shape[1:]][-8:]
    acts = activations(network, images, {layer, *names})
    wanted = acts[layer][:, channel : channel + 1]
    if float(wanted.amin()) < 0 or float(wanted.amax()) <= 0:
        return layer, channel
    for name in reversed(names):
        rectified = acts[name].clamp(0, float(wanted.amax()))
        off = (rectified - wanted).abs().amax((0, 2, 3))
        best = int(off.argmin())
        if off[best] < 1e-4 * wanted.amax() and acts[name][:, best].amin() < 0:
            return name, best
    return layer, channel
