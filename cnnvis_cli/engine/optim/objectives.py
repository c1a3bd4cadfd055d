"""Objectives: what a picture is asked to raise. A number per image, made from activations, composable with + - and *.

`class_logit(net, 7) - 0.5 * channel("conv4_1", 3) - 0.01 * total_variation()` is an objective. Regularizers are objectives
of the pictures themselves: I* = argmax f(I) + R(I) (Mahendran and Vedaldi 2015). All are maximized; a loss enters with a minus.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.network.activations import IMAGES, INDEX
from cnnvis_cli.engine.network.layers import OUTPUT
from cnnvis_cli.engine.network.network import Network

Activations = Mapping[str, Tensor]


# Kinds of terms that ask for a class.
CLASS_KINDS = ("class", "prob", "contrast", "probability")


@dataclass(frozen=True)
class Term:
    """One term of an objective: its `kind` (channel, neuron, layer, direction, class, prob, ...), the `layer` it reads, the
    `index` of the channel or class, a neuron's `place` (row, column), a class's `name` or a prior's exponent, the `weight`."""

    kind: str
    layer: str = ""
    index: int | None = None
    place: tuple[int, int] | None = None
    name: str = ""
    weight: float = 1.0

    @property
    def label(self) -> str:
        """How a reader would write it, without the weight."""
        if self.kind == "probability":
            return f"probability of {self.name}"
        number = "" if self.index is None or self.name else str(self.index)
        return ":".join(part for part in (self.kind, self.layer, number, self.name, *map(str, self.place or ())) if part)

    def weighted(self, weight: float) -> Term:
        return replace(self, weight=self.weight * weight)


@dataclass(frozen=True)
class Objective:
    """`layers`: whose activations it reads. `value`: from these to (B,) numbers. `terms`: what it is the sum of."""

    layers: frozenset[str]
    value: Callable[[Activations], Tensor]
    terms: tuple[Term, ...] = ()

    def __call__(self, acts: Activations) -> Tensor:
        return self.value(acts)

    @property
    def label(self) -> str:
        """How a reader would write it: `channel:conv4_1:17 - 0.5*class:elephant`."""
        text = ""
        for term in self.terms:
            size = abs(term.weight) if text else term.weight
            sign = (" - " if term.weight < 0 else " + ") if text else ""
            text += f"{sign}{'' if size == 1 else f'{size:g}*'}{term.label}"
        return text

    def __add__(self, other: Objective) -> Objective:
        return Objective(self.layers | other.layers, lambda a: self(a) + other(a), self.terms + other.terms)

    def __sub__(self, other: Objective) -> Objective:
        subtracted = tuple(term.weighted(-1.0) for term in other.terms)
        return Objective(self.layers | other.layers, lambda a: self(a) - other(a), self.terms + subtracted)

    def __mul__(self, weight: float) -> Objective:
        return Objective(self.layers, lambda a: weight * self(a), tuple(term.weighted(weight) for term in self.terms))

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return self * -1.0


def _of_layer(layer: str, value: Callable[[Tensor], Tensor], term: Term) -> Objective:
    return Objective(frozenset([layer]), lambda acts: value(acts[layer]), (term,))


def _of_images(value: Callable[[Tensor], Tensor], term: Term) -> Objective:
    return Objective(frozenset(), lambda acts: value(acts[IMAGES]), (term,))


def neuron(layer: str, index: int, y: int | None = None, x: int | None = None) -> Objective:
    """One unit: channel `index` at row `y`, column `x` of a layer's maps (default: the middle)."""

    def value(maps: Tensor) -> Tensor:
        if maps.ndim == 2:
            return maps[:, index]
        if maps.ndim == 3:  # a sequence: `y` is the place in it
            return maps[:, index, min(maps.shape[2] - 1, maps.shape[2] // 2 if y is None else y)]
        height, width = maps.shape[2:]
        row, column = height // 2 if y is None else y, width // 2 if x is None else x
        if row >= height or column >= width:
            raise UserError(f"neuron {row}:{column} is out of range: {layer} has {height} x {width} positions on this picture.")
        return maps[:, index, row, column]

    place = None if y is None or x is None else (y, x)
    return _of_layer(layer, value, Term("neuron", layer, index, place))


def channel(layer: str, index: int) -> Objective:
    """Mean activation of one channel (Erhan et al. 2009; L = mean(f_i))."""
    return _of_layer(
        layer, lambda a: a[:, index].flatten(1).mean(1) if a.ndim > 2 else a[:, index], Term("channel", layer, index)
    )


def layer_energy(layer: str) -> Objective:
    """Half the mean square of a layer: its gradient is the activation itself (Mordvintsev, Olah, Tyka 2015)."""
    return _of_layer(layer, lambda a: 0.5 * a.square().flatten(1).mean(1), Term("layer", layer))


def direction(layer: str, vector: Tensor) -> Objective:
    """Mean over positions of the projection on a direction (C,) of the layer's channel space."""
    unit = vector / vector.norm()

    def value(a: Tensor) -> Tensor:
        return torch.einsum("bc...,c->b...", a, unit.to(a)).flatten(1).mean(1)

    return _of_layer(layer, value, Term("direction", layer))


def _class(kind: str, network: Network, index: int) -> Term:
    return Term(kind, index=index, name=network.class_name(index))


def class_logit(network: Network, index: int) -> Objective:
    """The class score before the softmax (Simonyan et al. 2014, eq. 1: not the probability, which others can lower), as the
    network returns it. Of one logit z for two classes it is z for yes and -z for no."""

    def value(scores: Tensor) -> Tensor:
        return scores[:, index] - scores[:, 1 - index] if network.reading.binary else scores[:, index]

    return _of_layer(OUTPUT, value, _class("class", network, index))


def class_contrast(network: Network, index: int) -> Objective:
    """The class score minus the mean of all others': what raises every score alike counts for nothing."""

    def value(scores: Tensor) -> Tensor:
        if network.reading.binary:
            return 2 * (scores[:, index] - scores[:, 1 - index])
        return (scores[:, index] - scores.mean(1)) * (scores.shape[1] / max(1, scores.shape[1] - 1))

    return _of_layer(OUTPUT, value, _class("contrast", network, index))


def class_probability(network: Network, index: int) -> Objective:
    """Log-probability of a class: the same maximum as the probability, with a gradient that does not vanish far from it."""
    return _of_layer(OUTPUT, lambda scores: scores.log_softmax(1)[:, index], _class("prob", network, index))


def class_share(network: Network, index: int) -> Objective:
    """The probability itself, 0 to 1: what is read off when a picture is changed (occlusion, deletion), not climbed."""
    return _of_layer(OUTPUT, lambda scores: scores.softmax(1)[:, index], _class("probability", network, index))


def content(layer: str, target: Tensor) -> Objective:
    """Minus the squared distance to a code (1, C, H, W) or (B, C, H, W), relative to its squared norm.

    Mahendran and Vedaldi 2015, eq. 2-3: |Phi(x) - Phi0|^2 / |Phi0|^2.
    """
    norms = target.flatten(1).square().sum(1).clamp_min(1e-12)
    return _of_layer(layer, lambda a: -(a - target).flatten(1).square().sum(1) / norms, Term("content", layer))


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
    return Objective(layers, value)


def diversity(layer: str) -> Objective:
    """Minus the mean cosine similarity of each picture's Gram matrix with those of the others (Olah et al. 2017)."""

    def value(a: Tensor) -> Tensor:
        maps = a.flatten(2) if a.ndim > 2 else a[:, :, None]
        gram = F.normalize((maps @ maps.mT).flatten(1), dim=1)
        similarity = gram @ gram.T
        return -(similarity.sum(1) - similarity.diagonal()) / max(1, len(a) - 1)

    return _of_layer(layer, value, Term("diversity", layer))


def norm(p: float = 2.0) -> Objective:
    """Mean over values of |2x - 1|^p: the distance from mid grey, of which Simonyan et al. 2014 penalize p = 2 and
    Mahendran and Vedaldi 2015 p = 6 (there of mean-subtracted pixels)."""
    return _of_images(lambda x: (2 * x - 1).abs().pow(p).flatten(1).mean(1), Term("norm", name=f"{p:g}"))


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

    return _of_images(value, Term("tv", name=f"{beta:g}"))
