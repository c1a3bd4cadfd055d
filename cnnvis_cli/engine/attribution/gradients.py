"""Which pixels, or which places of a layer, a target depends on: gradients and what is built on them.

The target is any objective: a class's logit, a neuron or a channel of an inner layer, a sum of such. All functions take
images (B, 3, H, W), sRGB in [0, 1], and differentiate with respect to these, not to the normalized input.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.locality.receptive_field import receptive_fields
from cnnvis_cli.engine.network.activations import RAW, activations
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.network.operators import operator, rectifies
from cnnvis_cli.engine.optim.objectives import Objective

# So many of the last layers are asked whether the target is reached through their places.
_LOOKED_AT = 24


def gradient(network: Network, images: Tensor, target: Objective) -> Tensor:
    """d target / d pixel, (B, 3, H, W). Simonyan, Vedaldi and Zisserman 2013, section 3 (before the absolute value)."""
    images = images.detach().requires_grad_(True)
    values = target(activations(network, images, target.layers))
    return torch.autograd.grad(values.sum(), images)[0]


def gradient_times_input(network: Network, images: Tensor, target: Objective) -> Tensor:
    """Gradient times (pixel - mean colour), (B, 3, H, W): the first-order share of each value in the target.

    The input is what the network sees, 0 for the mean colour of the training pictures; the scale cancels out.
    """
    return gradient(network, images, target) * (images - baseline(network))


def baseline(network: Network) -> Tensor:
    """(1, 3, 1, 1) the mean colour of the training pictures, which the network sees as zeros."""
    return network.mean_color.to(network.device).view(1, 3, 1, 1)


def smoothgrad(
    network: Network, images: Tensor, target: Objective, generator: torch.Generator, *, samples: int = 25, noise: float = 0.15
) -> Tensor:
    """Mean gradient (B, 3, H, W) over `samples` noisy copies. Smilkov et al. 2017.

    `noise`: standard deviation as a share of each picture's range of values (the paper: 0.1 to 0.2). `generator` on the CPU.
    """
    spread = (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True)) * noise
    total = torch.zeros_like(images)
    for _ in range(samples):
        total += gradient(network, images + spread * torch.randn(images.shape, generator=generator).to(images), target)
    return total / samples


def integrated_gradients(
    network: Network, images: Tensor, target: Objective, *, start: Tensor | None = None, steps: int = 50
) -> Tensor:
    """(image - start) times the gradient averaged on the straight way between them, (B, 3, H, W).

    Sundararajan, Taly and Yan 2017. The sum over an image is target(image) - target(start), up to the quadrature:
    Gauss-Legendre with `steps` points. `start` (broadcast to the images): the mean colour by default.
    """
    start = baseline(network) if start is None else start
    points, weights = np.polynomial.legendre.leggauss(steps)
    total = torch.zeros_like(images)
    for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
        total += float(weight) * gradient(network, start + float(point) * (images - start), target)
    return total * (images - start)


class _Guided(TorchFunctionMode):
    """Clamps the gradient that enters each rectifier from above; the rectifier itself masks it by its activation.

    At this level every way of calling one arrives: modules, functionals, tensor methods, in place or not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rectified = 0
        self.others: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if rectifies(name, args, kwargs):
            self.rectified += 1
            if result.requires_grad:
                result.register_hook(lambda grad: grad.clamp(min=0))
        elif (known := operator(name)) is not None and known.rectifier == "smooth":
            self.others.add(known.name)
        return result


@contextmanager
def guided(network: Network) -> Iterator[None]:
    """Inside, gradients pass a rectifier only where they and its activation are positive. Springenberg et al. 2014.

    Raises UserError at the end if nothing that ran was a rectifier: then the rule has no meaning for this network.
    """
    mode = _Guided()
    with mode:
        yield
    if not mode.rectified:
        found = f"; its nonlinearities are {', '.join(sorted(mode.others))}" if mode.others else ""
        raise UserError(
            f"guided backprop has no meaning for {network.name}: nothing on the way to the target is a rectifier "
            f"(ReLU, ReLU6){found}. Use method=gradient, smoothgrad or grad_cam."
        )


def guided_backprop(network: Network, images: Tensor, target: Objective) -> Tensor:
    """Gradient (B, 3, H, W) that passes each rectifier only where it and the activation are positive; see `guided`."""
    with guided(network):
        return gradient(network, images, target)


def grad_cam_layer(network: Network, target: Objective, images: Tensor) -> str:
    """The layer Grad-CAM looks at unless told: the last one with as many places as the last layer with weights over places
    (a convolution, or the linear layers of a transformer), before the target, through whose places the target is reached.
    (After a transformer's last attention only the class token is; of its tokens those as wide as its patches count.)
    """
    end = min((network.layer(name).order for name in target.layers), default=0)
    before = [layer for layer in network.layers.values() if layer.spatial and layer.order < end]
    before = [layer for layer in before if layer.shape[1] * layer.shape[2] > 1]
    if not before:
        raise UserError(f"grad_cam needs a layer with maps before {target.label}; {network.name} has none there.")
    modules = dict(network.module.named_modules())
    weighted = [layer for layer in before if isinstance(modules[layer.name], nn.Conv2d | nn.Linear)]
    places = (weighted or before)[-1].shape[1:]
    candidates = [layer for layer in before if layer.shape[1:] == places]
    if not candidates[-1].layout.extra:
        return candidates[-1].name
    width = candidates[-1].channels  # not queries, keys and values in one, nor a block's wider inside
    candidates = [layer for layer in candidates if layer.channels == width]
    names = [layer.name for layer in candidates[-_LOOKED_AT:]]
    acts = activations(network, images.detach().requires_grad_(True), target.layers | set(names), raw=names)
    slopes = torch.autograd.grad(target(acts).sum(), [acts[RAW + name] for name in names], allow_unused=True)
    size = images.shape[2], images.shape[3]
    for name, slope in reversed(list(zip(names, slopes, strict=True))):
        if slope is not None and bool(network.layer(name).layout.canonical(slope, len(images), size).any()):
            return name
    return candidates[-1].name


def grad_cam(network: Network, images: Tensor, target: Objective, layer: str | None = None) -> Tensor:
    """Places of a layer that speak for the target: the rectified sum of its maps, each weighted by its mean gradient.

    (B, h, w) at the layer's own resolution; `over_picture` draws it. Selvaraju et al. 2017, equations 1 and 2.
    """
    layer = layer or grad_cam_layer(network, target, images)
    if not network.layer(layer).spatial:
        what = "vector" if len(network.layer(layer).shape) == 1 else "sequence"
        raise UserError(f"grad_cam needs a layer with maps; {layer} of {network.name} gives a {what}.")
    if network.bf16:  # activations come back as float32 copies then, which the target does not depend on
        network = replace(network, bf16=False)
    acts = activations(network, images.detach().requires_grad_(True), target.layers | {layer}, raw=[layer])
    slopes = torch.autograd.grad(target(acts).sum(), acts[RAW + layer], allow_unused=True)[0]
    if slopes is None:
        raise UserError(f"grad_cam: the target does not depend on layer {layer} of {network.name}; name an earlier layer.")
    grads = network.layer(layer).layout.canonical(slopes, len(images), (images.shape[2], images.shape[3]))
    weights = grads.mean((2, 3), keepdim=True)
    return (weights * acts[layer].detach()).sum(1).clamp(min=0)


def over_picture(network: Network, images: Tensor, layer: str, maps: Tensor) -> Tensor:
    """A layer's maps (B, h, w) drawn over its pictures, (B, H, W): each place at the centre of its receptive field."""
    fields = receptive_fields(network, images.shape[2], images.shape[3])
    return fields[network.layer(layer).name].spread(maps)


def guided_grad_cam(network: Network, images: Tensor, target: Objective, layer: str | None = None) -> Tensor:
    """Guided backprop times the enlarged Grad-CAM, (B, 3, H, W). Selvaraju et al. 2017, section 3.2."""
    layer = layer or grad_cam_layer(network, target, images)
    cam = grad_cam(network, images, target, layer)
    return guided_backprop(network, images, target) * over_picture(network, images, layer, cam)[:, None]


def strongest(attribution: Tensor) -> Tensor:
    """(B, 3, H, W) to (B, H, W): the largest absolute value over RGB (Simonyan). How much a pixel matters, not which way."""
    return attribution.abs().amax(1)


def signed_picture(attribution: Tensor, share: float = 0.995) -> Tensor:
    """A gradient (3, H, W) as a picture of its size in [0, 1]: grey where a value does not matter, brighter where more of that
    colour raises the target, darker where it lowers it, as Springenberg et al. 2014 show guided backprop. The `share` quantile
    of the absolute values is full contrast, which a few bright pixels cannot take away."""
    values = attribution.abs().flatten()
    top = values.kthvalue(max(1, round(share * len(values)))).values
    return 0.5 + 0.5 * (attribution / torch.where(top > 0, top, values.amax().clamp_min(1e-30))).clamp(-1, 1)


def contribution(attribution: Tensor) -> Tensor:
    """(B, 3, H, W) to (B, H, W): the sum over RGB, signed. For methods whose values are shares of the target."""
    return attribution.sum(1)
