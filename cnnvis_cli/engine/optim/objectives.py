"""Objectives: what a picture is asked to raise. A number per image, made from activations, composable with + - and *.

`class_logit(net, 7) - 0.5 * channel("conv4_1", 3) - 0.01 * total_variation()` is an objective. Regularizers are objectives
of the pictures themselves (background texts 1 to 5: I* = argmax f(I) + R(I)). All are maximized; a loss enters with a minus.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.network.activations import IMAGES, INDEX
from cnnvis_cli.engine.network.network import Network

Activations = Mapping[str, Tensor]


@dataclass(frozen=True)
class Objective:
    """`layers`: whose activations it reads. `value`: from these to (B,) numbers. `label`: how a reader would write it."""

    layers: frozenset[str]
    value: Callable[[Activations], Tensor]
    label: str

    def __call__(self, acts: Activations) -> Tensor:
        return self.value(acts)

    def __add__(self, other: Objective) -> Objective:
        return Objective(self.layers | other.layers, lambda a: self(a) + other(a), f"{self.label} + {other.label}")

    def __sub__(self, other: Objective) -> Objective:
        return Objective(self.layers | other.layers, lambda a: self(a) - other(a), f"{self.label} - {other.label}")

    def __mul__(self, weight: float) -> Objective:
        return Objective(self.layers, lambda a: weight * self(a), f"{weight:g}*{self.label}")

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return self * -1.0


def _of_layer(layer: str, value: Callable[[Tensor], Tensor], label: str) -> Objective:
    return Objective(frozenset([layer]), lambda acts: value(acts[layer]), label)


def _of_images(value: Callable[[Tensor], Tensor], label: str) -> Objective:
    return Objective(frozenset(), lambda acts: value(acts[IMAGES]), label)


def neuron(layer: str, index: int, y: int | None = None, x: int | None = None) -> Objective:
    """One unit: channel `index` at row `y`, column `x` of a layer's maps (default: the middle)."""

    def value(maps: Tensor) -> Tensor:
        if maps.ndim == 2:
            return maps[:, index]
        height, width = maps.shape[2:]
        row, column = height // 2 if y is None else y, width // 2 if x is None else x
        if row >= height or column >= width:
            raise UserError(f"neuron {row}:{column} is out of range: {layer} has {height} x {width} positions on this picture.")
        return maps[:, index, row, column]

    place = "" if y is None else f":{y}:{x}"
    return _of_layer(layer, value, f"neuron:{layer}:{index}{place}")


def channel(layer: str, index: int) -> Objective:
    """Mean activation of one channel (Erhan et al. 2009; background text 3: L = mean(f_i))."""
    return _of_layer(layer, lambda a: a[:, index].flatten(1).mean(1) if a.ndim > 2 else a[:, index], f"channel:{layer}:{index}")


def layer_energy(layer: str) -> Objective:
    """Half the mean square of a layer: its gradient is the activation itself (deep dream; background text 5)."""
    return _of_layer(layer, lambda a: 0.5 * a.square().flatten(1).mean(1), f"layer:{layer}")


def direction(layer: str, vector: Tensor) -> Objective:
    """Mean over positions of the projection on a direction (C,) of the layer's channel space."""
    unit = vector / vector.norm()

    def value(a: Tensor) -> Tensor:
        return torch.einsum("bc...,c->b...", a, unit.to(a)).flatten(1).mean(1)

    return _of_layer(layer, value, f"direction:{layer}")


def class_logit(network: Network, index: int) -> Objective:
    """The class score before the softmax (Simonyan et al. 2014, eq. 1: not the probability, which others can lower)."""
    return _of_layer(network.logits_layer.name, lambda a: a.flatten(1)[:, index], f"class:{network.class_name(index)}")


def class_probability(network: Network, index: int) -> Objective:
    """Log-probability of a class: the same maximum as the probability, with a gradient that does not vanish far from it."""
    label = f"prob:{network.class_name(index)}"
    return _of_layer(network.logits_layer.name, lambda a: a.flatten(1).log_softmax(1)[:, index], label)


def class_share(network: Network, index: int) -> Objective:
    """The probability itself, 0 to 1: what is read off when a picture is changed (occlusion, deletion), not climbed."""
    label = f"probability of {network.class_name(index)}"
    return _of_layer(network.logits_layer.name, lambda a: a.flatten(1).softmax(1)[:, index], label)


def content(layer: str, target: Tensor) -> Objective:
    """Minus the squared distance to a code (1, C, H, W) or (B, C, H, W), relative to its squared norm.

    Mahendran and Vedaldi 2015, eq. 2-3: |Phi(x) - Phi0|^2 / |Phi0|^2.
    """
    norms = target.flatten(1).square().sum(1).clamp_min(1e-12)
    return _of_layer(layer, lambda a: -(a - target).flatten(1).square().sum(1) / norms, f"content:{layer}")


def each(objectives: Sequence[Objective]) -> Objective:
    """The i-th picture of a batch is asked for the i-th objective. Needs `INDEX` among the activations."""

    def value(acts: Activations) -> Tensor:
        positions = acts[INDEX].tolist()
        values = []
        for row, position in enumerate(positions):
            one = {key: tensor[row : row + 1] for key, tensor in acts.items()}
            values.append(objectives[position](one))
        return torch.cat(values)

    layers = frozenset().union(*(o.layers for o in objectives))
    return Objective(layers, value, ", ".join(dict.fromkeys(o.label for o in objectives)))


def diversity(layer: str) -> Objective:
    """Minus the mean cosine similarity of each picture's Gram matrix with those of the others (Olah et al. 2017)."""

    def value(a: Tensor) -> Tensor:
        maps = a.flatten(2) if a.ndim > 2 else a[:, :, None]
        gram = F.normalize((maps @ maps.mT).flatten(1), dim=1)
        similarity = gram @ gram.T
        return -(similarity.sum(1) - similarity.diagonal()) / max(1, len(a) - 1)

    return _of_layer(layer, value, f"diversity:{layer}")


def norm(p: float = 2.0) -> Objective:
    """Mean over values of |2x - 1|^p: the distance from mid grey, of which Simonyan et al. 2014 penalize p = 2 and
    Mahendran and Vedaldi 2015 p = 6 (there of mean-subtracted pixels)."""
    return _of_images(lambda x: (2 * x - 1).abs().pow(p).flatten(1).mean(1), f"norm:{p:g}")


def total_variation(beta: float = 2.0, *, around: bool = False) -> Objective:
    """Mean over pixels of (dx^2 + dy^2)^(beta / 2) (Mahendran and Vedaldi 2015, section 2, there a sum).

    `around`: the last row and column are neighbours of the first.
    """

    def value(x: Tensor) -> Tensor:
        if around:
            x = F.pad(x, (0, 1, 0, 1), mode="circular")
        dx = x[:, :, :-1, 1:] - x[:, :, :-1, :-1]
        dy = x[:, :, 1:, :-1] - x[:, :, :-1, :-1]
        return (dx.square() + dy.square() + 1e-8).pow(beta / 2).flatten(1).mean(1)

    return _of_images(value, f"tv:{beta:g}")
