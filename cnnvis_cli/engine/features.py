"""Activations at named layers. The forward pass ends at the deepest layer that was asked for, in any module."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from cnnvis_cli.engine.layers import OutOfPlace, hooked, tensor_of
from cnnvis_cli.engine.network import Network

IMAGES = "images"  # the key under which the pictures themselves stand among the activations


class _Reached(Exception):
    """Ends a forward pass whose remaining layers nobody asked for."""


def activations(network: Network, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
    """Outputs of the named layers for images (B, 3, H, W), sRGB in [0, 1]; the pictures themselves under `IMAGES`.

    Keys are the names as asked for (an alias stays an alias). Values are float32 and differentiable with respect to
    `images`. A layer that is called several times gives its last output. Raises UserError for an unknown layer.
    """
    wanted = {name: network.layer(name) for name in layers}
    found: dict[str, Tensor] = {}
    if not wanted:
        return {IMAGES: images}
    missing = {layer.name: layer.calls for layer in wanted.values()}
    children = dict(network.module.named_modules())
    names = {children[name]: name for name in missing}

    def hook(child: nn.Module, inputs: Any, output: Any) -> None:
        name = names[child]
        missing[name] -= 1
        found[name] = tensor_of(output)  # type: ignore[assignment]
        if not any(count > 0 for count in missing.values()):
            raise _Reached

    with hooked(dict.fromkeys(names, hook)), OutOfPlace(), network.precision():
        try:
            network.module(network.normalize(images))
        except _Reached:
            pass
    return {IMAGES: images} | {name: found[layer.name].float() for name, layer in wanted.items()}
