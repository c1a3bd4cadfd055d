"""Exact gradients of large pictures, tile by tile, for losses made of sums over positions.

Galerne et al. 2022 ("Scaling painting style transfer"): first the sums over the whole picture, without a graph; then, tile by
tile, back-propagation of the loss's gradient with respect to these sums. A tile is cut out with a halo as wide as the network
sees and on the grid of its strides, so its own features, and the gradient, are those of the whole picture.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.locality.receptive_field import Span, receptive_fields
from cnnvis_cli.engine.network.activations import IMAGES, activations
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.evaluate import ValueGradient
from cnnvis_cli.engine.optim.objectives import Objective
from cnnvis_cli.engine.statistics import Summary, add


@dataclass(frozen=True)
class Place:
    """Where a piece of a layer's map lies: `row` and `col` of its first position in the whole map, `stride` in pixels."""

    row: int
    col: int
    stride: int


Places = Mapping[str, Place]
Parts = Callable[[Mapping[str, Tensor], Places], Summary]
# Outputs of one tile, each with the gradient of the whole with respect to it.
Pairs = Callable[[Mapping[str, Tensor], Places], Sequence[tuple[Tensor, Tensor]]]


class Additive(Protocol):
    """A loss that is a function of sums over positions."""

    layers: frozenset[str]

    def parts(self, acts: Mapping[str, Tensor], places: Places) -> Summary:
        """Sums over the positions handed over: pieces (B, C, h, w) of the maps."""

    def total(self, parts: Summary) -> Tensor:
        """(B,) loss from the sums over the whole picture."""


@dataclass(frozen=True)
class Geometry:
    """`strides` of layers in pixels, their common `step`, and the `halo` in pixels (a multiple of it) that their maps need."""

    strides: Mapping[str, int]
    step: int
    halo: int


def geometry(network: Network, layers: Iterable[str]) -> Geometry:
    """From the layers' receptive fields. UserError where a layer sees the whole of any picture, as far as is known."""
    fields = {layer: receptive_fields(network)[network.layer(layer).name] for layer in layers}
    wide = [layer for layer, field in fields.items() if field.size is None]
    if wide:
        raise UserError(
            f"tiles need layers that see only a part of the picture; in {network.name} these see all: {', '.join(wide)}."
        )
    spans = {layer: (field.rows, field.columns) for layer, field in fields.items()}
    strides = {layer: int(rows.stride or 1) for layer, (rows, _) in spans.items()}
    step = math.lcm(1, *strides.values())
    reach = max(_beyond(span, step) for pair in spans.values() for span in pair)
    return Geometry(strides, step, math.ceil(reach / step) * step)


def _beyond(span: Span, step: int) -> int:
    """How far the pixels of the units that a stretch of `step` pixels touches lie beyond it, on either side."""
    stride, size, start = int(span.stride or 1), int(span.size or 1), int(span.start or 0)
    first, last = (-start - size) // stride + 1, -((start - step) // stride) - 1
    return max(-first * stride, (last + 1) * stride - step)


@dataclass(frozen=True)
class Tile:
    """`core`: rows and columns of the picture it answers for; `cut`: those that the network is shown."""

    core: tuple[slice, slice]
    cut: tuple[slice, slice]


def tiles(height: int, width: int, side: int, shape: Geometry, wrapped: bool = False) -> Iterator[Tile]:
    """Tiles of about `side` pixels that cover the picture. `wrapped`: in coordinates of one padded by a halo."""
    side = max(1, side // shape.step) * shape.step

    def spans(length: int) -> list[tuple[slice, slice]]:
        edges = [*range(0, max(length - side // 2, 1), side), length]
        low, high = (-shape.halo, length + shape.halo) if wrapped else (0, length)
        offset = -low
        return [
            (
                slice(a + offset, b + offset),
                slice(max(low, a - shape.halo) + offset, min(high, b + shape.halo) + offset),
            )
            for a, b in itertools.pairwise(edges)
        ]

    for rows, cut_rows in spans(height):
        for cols, cut_cols in spans(width):
            yield Tile((rows, cols), (cut_rows, cut_cols))


class Tiled:
    """The work of going over a picture in tiles, for given layers of a network.

    `circular`: the picture goes on at the opposite side (its sides must then be multiples of the network's stride).
    """

    def __init__(self, network: Network, layers: Iterable[str], side: int, *, circular: bool = False) -> None:
        self._network, self._layers, self._side, self._circular = network, list(layers), side, circular
        self.shape = geometry(network, self._layers)

    def _padded(self, pictures: Tensor) -> Tensor:
        if not self._circular:
            return pictures
        height, width = pictures.shape[-2:]
        if height % self.shape.step or width % self.shape.step or min(height, width) < self.shape.halo:
            raise UserError(
                f"a tileable picture in tiles needs sides of at least {self.shape.halo} px that are multiples of "
                f"{self.shape.step}; this one is {width} x {height}."
            )
        return F.pad(pictures, [self.shape.halo] * 4, mode="circular")

    def _walk(self, pictures: Tensor) -> Iterator[Tile]:
        height, width = pictures.shape[-2:]
        return tiles(height, width, self._side, self.shape, self._circular)

    def _maps(self, whole: Tensor, tile: Tile) -> tuple[Tensor, dict[str, Tensor], dict[str, Place]]:
        """The tile with its halo as a leaf of the graph, its core's maps, and where these start in the whole maps."""
        leaf = whole[:, :, tile.cut[0], tile.cut[1]].detach().requires_grad_(torch.is_grad_enabled())
        acts = activations(self._network, leaf, self._layers)
        found: dict[str, Tensor] = {}
        places: dict[str, Place] = {}
        halo = self.shape.halo if self._circular else 0
        for layer in self._layers:
            stride, maps = self.shape.strides[layer], acts[layer]
            for axis in (0, 1):
                core, cut = tile.core[axis], tile.cut[axis]
                first = (core.start - cut.start) // stride
                # A tile at the end of the picture answers for all that is left of the map: it may be no multiple of the stride.
                last = cut.stop == core.stop and not self._circular
                maps = maps.narrow(
                    2 + axis, first, maps.shape[2 + axis] - first if last else (core.stop - core.start) // stride
                )
            found[layer] = maps
            row, col = ((core.start - halo) // stride for core in tile.core)
            places[layer] = Place(row, col, stride)
        return leaf, found, places

    @torch.no_grad()
    def sums(self, pictures: Tensor, parts: Parts) -> Summary:
        """What `parts` gives for the whole picture."""
        whole = self._padded(pictures)
        total: Summary = {}
        for tile in self._walk(pictures):
            _, acts, places = self._maps(whole, tile)
            one = parts(acts, places)
            total = add(total, one) if total else one
        return total

    @torch.no_grad()
    def maps(self, pictures: Tensor, layer: str) -> Tensor:
        """One layer's whole map (B, C, h, w)."""
        whole = self._padded(pictures)
        rows: dict[int, list[Tensor]] = {}
        for tile in self._walk(pictures):
            _, acts, places = self._maps(whole, tile)
            rows.setdefault(places[layer].row, []).append(acts[layer])
        return torch.cat([torch.cat(row, 3) for row in rows.values()], 2)

    def pull(self, pictures: Tensor, slopes: Mapping[str, Tensor]) -> Tensor:
        """The gradient (B, 3, H, W) that gradients with respect to the layers' whole maps make of the pictures."""

        def pairs(acts: Mapping[str, Tensor], places: Places) -> list[tuple[Tensor, Tensor]]:
            found = []
            for layer, place in places.items():
                height, width = acts[layer].shape[-2:]
                found.append((acts[layer], slopes[layer][..., place.row : place.row + height, place.col : place.col + width]))
            return found

        return self._gradient(pictures, pairs)

    def _gradient(self, pictures: Tensor, pairs: Pairs) -> Tensor:
        """Back-propagation tile by tile: the gradient (B, 3, H, W) of what `pairs` gives for each tile's core."""
        leaf = pictures.detach().requires_grad_()
        whole = self._padded(leaf)
        gradient = torch.zeros_like(whole)
        for tile in self._walk(pictures):
            with torch.enable_grad():
                cut, acts, places = self._maps(whole, tile)
                outputs, weights = zip(*pairs(acts, places), strict=True)
            (slope,) = torch.autograd.grad(outputs, cut, weights)
            gradient[:, :, tile.cut[0], tile.cut[1]] += slope
        if self._circular:
            (gradient,) = torch.autograd.grad(whole, leaf, gradient)
        return gradient

    def evaluate(self, pictures: Tensor, loss: Additive) -> tuple[Tensor, Tensor]:
        """Loss (B,) and its gradient with respect to pictures (B, 3, H, W)."""
        summary = {
            key: value.requires_grad_(value.is_floating_point()) for key, value in self.sums(pictures, loss.parts).items()
        }
        values = loss.total(summary)
        slopes = dict(zip(summary, torch.autograd.grad(values.sum(), list(summary.values()), allow_unused=True), strict=True))

        def pairs(acts: Mapping[str, Tensor], places: Places) -> list[tuple[Tensor, Tensor]]:
            one = loss.parts(acts, places)
            return [(one[key], slope) for key, slope in slopes.items() if slope is not None and one[key].requires_grad]

        return values.detach(), self._gradient(pictures, pairs)


def tiled_value_gradient(tiled: Tiled, loss: Additive, pixels: Objective | None = None) -> ValueGradient:
    """For the loop: minus the loss, tile by tile, plus an objective of the pictures themselves (total variation)."""

    def evaluate(pictures: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        values, gradient = tiled.evaluate(pictures, loss)
        values, gradient = -values, -gradient
        if pixels is not None:
            leaf = pictures.detach().requires_grad_()
            extra = pixels({IMAGES: leaf})
            (slope,) = torch.autograd.grad(extra.sum(), leaf)
            values, gradient = values + extra.detach(), gradient + slope
        return values, gradient

    return evaluate
