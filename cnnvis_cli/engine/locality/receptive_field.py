"""Which pixels a layer's units can see: the receptive field, for any module.

The module runs once on tensors without values (PyTorch's meta device), and every tensor carries, for each of its rows and
columns, the first and the last pixel that can reach it. Convolutions and pools widen that interval, element-wise functions
and concatenations unite it, means and linear layers give everything the whole of it. This is exact, picture's border
included, and costs no arithmetic; a function that is not known here is taken to see all that its inputs see.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from cnnvis_cli.engine.network.layers import hooked, tensor_of
from cnnvis_cli.engine.network.network import Network

# Side of the picture on which sizes are measured, so large that its border is out of the middle unit's sight.
_PLANE = 4096
# Fewer units than this on the plane come from an adaptive pool, whose windows grow with the picture.
_FEWEST = 32
_NOTHING = (np.iinfo(np.int64).max, -1)


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
    module), it is that of the branch that sees most."""

    rows: Span
    columns: Span

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
    channels = len(network.preprocessing.mean)
    here = _run(network, channels, height, width)
    plane = _run(network, channels, _PLANE, _PLANE)
    everything = _pixels(height, width)
    fields = {}
    for name in network.layers:
        spans, far = here.get(name), plane.get(name, (None, None))
        if spans is None:
            spans, far = (_whole(everything[0]), _whole(everything[1])), (None, None)
        rows, columns = (_span(*parts) for parts in zip(spans, (height, width), far, strict=True))
        fields[name] = ReceptiveField(rows, columns)
    return fields


def _span(axis: _Axis, length: int, far: _Axis | None) -> Span:
    if far is not None and len(far.reach) >= _FEWEST:
        middle = len(far.reach) // 2
        (first, end), (second, _), (third, _) = far.reach[middle : middle + 3].tolist()
        stride = second - first
        if first > 0 and end < _PLANE and third - second == stride:
            return Span(axis.reach, length, end - first, stride, first - middle * stride)
    return Span(axis.reach, length)


# Propagation


@dataclass(frozen=True)
class _Axis:
    """One direction of the picture within a tensor. The element at flat (row-major) index f belongs to the unit
    `f // inner % len(reach)` of that direction, and reads pixels `reach[unit]`: the first, and the one after the last."""

    inner: int
    reach: np.ndarray

    def dim(self, shape: Sequence[int]) -> int | None:
        """The dimension of a tensor of this shape that it runs along, if it is one."""
        for d, size in enumerate(shape):
            if size == len(self.reach) > 1 and math.prod(shape[d + 1 :]) == self.inner:
                return d
        return None


_Axes = tuple[_Axis, _Axis]


def _pixels(height: int, width: int) -> _Axes:
    def each(count: int) -> np.ndarray:
        return np.stack([np.arange(count), np.arange(count) + 1], axis=1)

    return _Axis(width, each(height)), _Axis(1, each(width))


def _whole(axis: _Axis) -> _Axis:
    """Every element sees what any saw."""
    return _Axis(1, np.array([[axis.reach[:, 0].min(), axis.reach[:, 1].max()]]))


def _along(shape: Sequence[int], dim: int, reach: np.ndarray) -> _Axis:
    return _Axis(math.prod(shape[dim + 1 :]), reach)


def _united(axes: Sequence[_Axis]) -> _Axis:
    long = {(axis.inner, len(axis.reach)) for axis in axes if len(axis.reach) > 1}
    if len(long) > 1:  # they run along different dimensions
        axes, long = [_whole(axis) for axis in axes], set()
    firsts, ends = (np.broadcast_arrays(*(axis.reach[:, i] for axis in axes)) for i in (0, 1))
    inner = next(iter(long))[0] if long else 1
    return _Axis(inner, np.stack([np.min(firsts, axis=0), np.max(ends, axis=0)], axis=1))


def _windowed(reach: np.ndarray, count: int, kernel: int, stride: int, padding: int, dilation: int) -> np.ndarray:
    """`count` windows of a convolution or pool; what lies in the padding sees nothing."""
    read = np.arange(count)[:, None] * stride - padding + np.arange(kernel) * dilation
    inside = (read >= 0) & (read < len(reach))
    seen = reach[read.clip(0, len(reach) - 1)]
    firsts, ends = (np.where(inside, seen[..., i], _NOTHING[i]) for i in (0, 1))
    return np.stack([firsts.min(1), ends.max(1)], axis=1)


def _adapted(reach: np.ndarray, count: int) -> np.ndarray:
    """`count` bins of an adaptive pool."""
    n = len(reach)
    bins = [(i * n // count, -(-(i + 1) * n // count)) for i in range(count)]
    return np.array([(reach[a:b, 0].min(), reach[a:b, 1].max()) for a, b in bins])


# What element-wise functions are that PyTorch does not tag as such, and those that give each value back.
_SAME = {"native_batch_norm", "_native_batch_norm_legit_no_training", "hardswish", "hardswish_", "_to_copy", "native_dropout"}
_SAME |= {"rrelu", "rrelu_with_noise", "celu_", "selu_", "alias", "detach", "lift_fresh", "glu"}
_RESHAPE = {"view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze", "flatten"}
_MEANS = {"mean", "sum", "amax", "amin", "softmax", "_softmax", "_log_softmax", "var", "norm", "linalg_vector_norm"}
_PARTS = {"cat", "split", "split_with_sizes", "chunk", "unbind", "select", "slice"}


class _Propagation(TorchDispatchMode):
    """Carries the axes of every tensor that hangs on the picture through all functions, below any Python spelling of them."""

    def __init__(self, picture: Tensor) -> None:
        super().__init__()
        self._known: dict[int, _Axes] = {id(picture): _pixels(*picture.shape[-2:])}
        self._alive: list[Tensor] = [picture]  # so that ids stay theirs

    def axes(self, tensor: Tensor) -> _Axes | None:
        return self._known.get(id(tensor))

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        flat = [item for arg in args for item in (arg if isinstance(arg, list | tuple) else [arg])]
        known = [(tuple(t.shape), self._known[id(t)]) for t in flat if isinstance(t, Tensor) and id(t) in self._known]
        if known:
            for result in out if isinstance(out, list | tuple) else [out]:
                if isinstance(result, Tensor):
                    self._known[id(result)] = _propagated(func, args, known, tuple(result.shape))
                    self._alive.append(result)
        return out


def _propagated(func: Any, args: tuple, known: list[tuple[tuple[int, ...], _Axes]], shape: tuple[int, ...]) -> _Axes:
    """The axes of a function's output of this shape, from those of its inputs."""
    name = func.overloadpacket.__name__
    if rule := _WINDOWS.get(name):
        return _through_window(rule(args), known[0], shape, adaptive="adaptive" in name)
    before = known[0][0]
    dims = list(range(len(before)))
    if name in _RESHAPE and math.prod(before) == math.prod(shape):
        return known[0][1]
    if torch.Tag.pointwise in func.tags or name in _SAME or name == "expand":
        return _moved(known, shape, None)
    if name in ("permute", "transpose", "t"):
        order = args[1] if name == "permute" else _swapped(dims, *(args[1:3] or (0, 1)))
        return _moved(known, shape, {old % len(dims): new for new, old in enumerate(order)})
    if name in ("addmm", "mm"):
        return _rows_of_matrix(known[0][1], before[-1], shape[-1])
    if name == "native_layer_norm":
        return _moved(known, shape, {d: d for d in dims[: len(dims) - len(args[1])]})
    if name in _MEANS or name in _PARTS:
        return _moved(known, shape, _kept(name, args, len(dims), len(shape)))
    return _moved(known, shape, {})


def _rows_of_matrix(both: _Axes, features: int, outputs: int) -> _Axes:
    """A linear layer: rows keep what they see, however many dimensions they stand for; the features of a row are mixed."""
    rows, columns = (
        _Axis(axis.inner // features * outputs, axis.reach) if axis.inner % features == 0 else _whole(axis) for axis in both
    )
    return rows, columns


def _swapped(dims: list[int], a: int, b: int) -> list[int]:
    order = list(dims)
    order[a], order[b] = dims[b], dims[a]
    return order


def _kept(name: str, args: tuple, before: int, after: int) -> dict[int, int]:
    """Where the dimensions go that a mean does not mix, or a concatenation or a cut does not touch."""
    default = 0 if name in _PARTS else None
    place = 2 if name.startswith("split") else 1
    given = args[place] if len(args) > place else default
    touched = range(before) if given is None else given if isinstance(given, list | tuple) else [given]
    gone = {d % before for d in touched}
    kept = [d for d in range(before) if d not in gone]
    return {d: d if before == after else i for i, d in enumerate(kept)}


def _moved(known: list[tuple[tuple[int, ...], _Axes]], shape: tuple[int, ...], where: dict[int, int] | None) -> _Axes:
    """Unite the inputs' axes in an output of this shape. `where`: from an input's dimension to the output's; one that is not
    in it is mixed. None: aligned from the right, as in broadcasting."""
    united = []
    for direction in (0, 1):
        axes = []
        for before, both in known:
            axis = both[direction]
            dim = axis.dim(before)
            to = None if dim is None else dim + len(shape) - len(before) if where is None else where.get(dim)
            fits = to is not None and shape[to] == len(axis.reach)
            if where is None and before == shape:
                axes.append(axis)
            else:
                axes.append(_along(shape, to, axis.reach) if fits and to is not None else _whole(axis))
        united.append(_united(axes))
    return united[0], united[1]


def _through_window(
    window: list[list[int]] | None, known: tuple[tuple[int, ...], _Axes], shape: tuple[int, ...], *, adaptive: bool
) -> _Axes:
    """`window`: kernel, stride, padding and dilation, each for rows and columns."""
    before, both = known
    result = []
    for direction, axis in enumerate(both):
        dim = len(shape) - 2 + direction
        if axis.dim(before) != dim and not (len(axis.reach) == before[dim] == 1):
            result.append(_whole(axis))
        elif adaptive:
            result.append(_along(shape, dim, _adapted(axis.reach, shape[dim])))
        elif window is None:
            result.append(_whole(axis))
        else:
            kernel, stride, padding, dilation = (values[direction % len(values)] for values in window)
            result.append(_along(shape, dim, _windowed(axis.reach, shape[dim], kernel, stride, padding, dilation)))
    return result[0], result[1]


def _convolution(args: tuple) -> list[list[int]] | None:
    _, weight, _, stride, padding, dilation, transposed = args[:7]
    return None if transposed else [list(weight.shape[2:]), stride, padding, dilation]


def _pool(args: tuple, *, dilated: bool) -> list[list[int]]:
    kernel, stride, padding, dilation = [*args[1:5], *((), [], [0], [1])[len(args) - 1 :]][:4]
    return [list(kernel), list(stride) or list(kernel), list(padding) or [0], list(dilation) if dilated else [1]]


_WINDOWS: dict[str, Callable[[tuple], list[list[int]] | None]] = {
    "convolution": _convolution,
    "max_pool2d_with_indices": lambda args: _pool(args, dilated=True),
    "avg_pool2d": lambda args: _pool(args, dilated=False),
    "_adaptive_avg_pool2d": lambda args: None,
    "adaptive_max_pool2d": lambda args: None,
}


@torch.no_grad()
def _run(network: Network, channels: int, height: int, width: int) -> dict[str, _Axes]:
    """Axes of every submodule that gives maps, as far as the module runs on a picture of that size."""
    module = network.module
    names = {child: name for name, child in module.named_modules() if name}
    state = {name: tensor.to("meta") for name, tensor in [*module.named_parameters(), *module.named_buffers()]}
    dtype = next((tensor.dtype for tensor in state.values() if tensor.is_floating_point()), torch.float32)
    picture = torch.empty(1, channels, height, width, device="meta", dtype=dtype)
    propagation = _Propagation(picture)
    found: dict[str, _Axes] = {}
    channels_at = {name: layer.layout.channel for name, layer in network.layers.items()}

    def hook(child: nn.Module, inputs: Any, output: Any) -> None:
        tensor = tensor_of(output)
        axes = None if tensor is None else propagation.axes(tensor)
        if axes is None or tensor is None or names[child] not in channels_at:
            return
        places = tuple(n for axis, n in enumerate(tensor.shape) if axis not in (0, channels_at[names[child]]))
        if tuple(len(axis.reach) for axis in axes) == places:
            found[names[child]] = axes

    # Any module may stop here for reasons of its own (a fixed size, a look at values); what it reached is known.
    try:
        with hooked(dict.fromkeys(names, hook)), propagation:
            functional_call(module, state, (picture,))
    except Exception:
        return found
    return found
