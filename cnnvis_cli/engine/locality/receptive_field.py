"""Which pixels a layer's units can see: the receptive field, for any module.

The module runs once on tensors without values (PyTorch's meta device), and every tensor carries, for each of its rows and
columns, the first and the last pixel that can reach it. Convolutions and pools widen that interval, element-wise functions
and concatenations unite it, means and linear layers give everything the whole of it. This is exact, picture's border
included, and costs no arithmetic. A function that is not in the table of operators is taken to see all that its inputs see,
and reported: what comes after it is approximate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cnnvis_cli.engine.locality.propagation import Axis, pixels, reach_of_layers, whole
from cnnvis_cli.engine.network.network import Network

# Side of the picture on which sizes are measured, so large that its border is out of the middle unit's sight.
_PLANE = 4096
# Fewer units than this on the plane come from an adaptive pool, whose windows grow with the picture.
_FEWEST = 32


@dataclass(frozen=True)
class Span:
    """What a layer's rows (or columns) of units see of a picture's rows (columns).

    `reach` (units, 2): first pixel and the one after the last, within the picture. `size`, `stride`, `start`: unit i sees
    `size` pixels from `start + i * stride` on, before the picture's border cuts it. None where that grows with the picture.
    """

    reach: np.ndarray
    length: int
    size: int | None = None
    stride: int = 0
    start: int = 0

    def first(self, unit: int) -> int:
        """First pixel that a unit sees where the picture goes on beyond its border: negative there."""
        return self.start + unit * self.stride

    def centers(self) -> tuple[float, float]:
        """Pixel coordinate of the centre of unit 0, and the distance to that of the next; evenly spread if `size` is None."""
        if self.size is None:
            step = self.length / len(self.reach)
            return (step - 1) / 2, step
        return self.start + (self.size - 1) / 2, float(self.stride)


@dataclass(frozen=True)
class ReceptiveField:
    """Of a layer's units, for pictures of one height and width. Where a layer puts branches side by side (a fire or inception
    module), it is that of the branch that sees most. `approximate`: functions before it that are not in the table of operators;
    it may then see less than is said here."""

    rows: Span
    columns: Span
    approximate: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) in pixels, not cut by the border; None where a unit sees the whole of any picture."""
        if self.rows.size is None or self.columns.size is None:
            return None
        return self.rows.size, self.columns.size

    def box(self, y: int = 0, x: int = 0) -> tuple[int, int, int, int]:
        """(top, bottom, left, right) of what the unit at row `y`, column `x` sees; bottom and right are not included."""
        rows, columns = (span.reach[min(i, len(span.reach) - 1)] for span, i in ((self.rows, y), (self.columns, x)))
        return int(rows[0]), int(rows[1]), int(columns[0]), int(columns[1])

    def spread(self, maps: Tensor) -> Tensor:
        """Maps (..., h, w) drawn over the picture, (..., height, width): each unit's value at the centre of what it sees.

        Bilinear in between, constant beyond the outermost centres.
        """

        height, width = maps.shape[-2:]
        return _lines(self.rows, height, maps) @ maps @ _lines(self.columns, width, maps).T


def _lines(span: Span, units: int, like: Tensor) -> Tensor:
    """(length, units) weights of linear interpolation between the units' centres; evenly spread where these are not known."""
    step = span.length / units
    first, step = span.centers() if units == len(span.reach) else ((step - 1) / 2, step)
    place = (torch.arange(span.length, dtype=torch.float64) - first) / step
    place = place.clamp(0, units - 1)
    return (1 - (place[:, None] - torch.arange(units)).abs()).clamp_min(0).to(like)


def receptive_fields(network: Network, height: int | None = None, width: int | None = None) -> dict[str, ReceptiveField]:
    """The receptive field of every layer, in the order of `network.layers`, for pictures of `height` by `width` pixels
    (default: the network's own size). Layers whose module cannot run without values are taken to see everything."""
    height, width = height or network.size, width or network.size
    if (known := network.measured.get(("receptive fields", height, width))) is not None:
        return known
    channels = len(network.preprocessing.mean)
    here, unknown = reach_of_layers(network, channels, height, width)
    plane, _ = reach_of_layers(network, channels, _PLANE, _PLANE)
    everything = pixels(height, width)
    fields = {}
    for name in network.layers:
        spans, far = here.get(name), plane.get(name, (None, None))
        if spans is None:
            spans, far = (whole(everything[0]), whole(everything[1])), (None, None)
        rows, columns = (_span(*parts) for parts in zip(spans, (height, width), far, strict=True))
        fields[name] = ReceptiveField(rows, columns, unknown.get(name, ("a module that cannot run without values",)))
    network.measured["receptive fields", height, width] = fields
    return fields


def _span(axis: Axis, length: int, far: Axis | None) -> Span:
    if far is not None and len(far.reach) >= _FEWEST:
        middle = len(far.reach) // 2
        (first, end), (second, _), (third, _) = far.reach[middle : middle + 3].tolist()
        stride = second - first
        if first > 0 and end < _PLANE and third - second == stride:
            return Span(axis.reach, length, end - first, stride, first - middle * stride)
    return Span(axis.reach, length)
