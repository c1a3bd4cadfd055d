"""How far each row and column of every tensor of a network's run reaches back in the picture, carried through all functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from cnnvis_cli.engine.network.layers import hooked, tensor_of
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.network.operators import operator, plain_name
from cnnvis_cli.engine.network.shapes import DispatchMode, shape_alone

_NOTHING = (np.iinfo(np.int64).max, -1)


@dataclass(frozen=True)
class Axis:
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


Axes = tuple[Axis, Axis]


def pixels(height: int, width: int) -> Axes:
    def each(count: int) -> np.ndarray:
        return np.stack([np.arange(count), np.arange(count) + 1], axis=1)

    return Axis(width, each(height)), Axis(1, each(width))


def whole(axis: Axis) -> Axis:
    """Every element sees what any saw."""
    return Axis(1, np.array([[axis.reach[:, 0].min(), axis.reach[:, 1].max()]]))


def _along(shape: Sequence[int], dim: int, reach: np.ndarray) -> Axis:
    return Axis(math.prod(shape[dim + 1 :]), reach)


def _united(axes: Sequence[Axis]) -> Axis:
    long = {(axis.inner, len(axis.reach)) for axis in axes if len(axis.reach) > 1}
    if len(long) > 1:  # they run along different dimensions
        axes, long = [whole(axis) for axis in axes], set()
    firsts, ends = (np.broadcast_arrays(*(axis.reach[:, i] for axis in axes)) for i in (0, 1))
    inner = next(iter(long))[0] if long else 1
    return Axis(inner, np.stack([np.min(firsts, axis=0), np.max(ends, axis=0)], axis=1))


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


class _Propagation(DispatchMode):
    """Carries the axes of every tensor that hangs on the picture through all functions, below any Python spelling of them."""

    def __init__(self, picture: Tensor) -> None:
        super().__init__()
        self._known: dict[int, Axes] = {id(picture): pixels(*picture.shape[-2:])}
        self.unknown: list[str] = []
        self._alive: list[Tensor] = [picture]  # so that ids stay theirs

    def axes(self, tensor: Tensor) -> Axes | None:
        return self._known.get(id(tensor))

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = shape_alone(func, args)
        if out is None:
            out = func(*args, **(kwargs or {}))
        flat = [item for arg in args for item in (arg if isinstance(arg, list | tuple) else [arg])]
        known = [(tuple(t.shape), self._known[id(t)]) for t in flat if isinstance(t, Tensor) and id(t) in self._known]
        if known:
            name = func.overloadpacket.__name__
            if operator(name) is None and torch.Tag.pointwise not in func.tags:
                self.unknown.append(plain_name(name))
            for result in out if isinstance(out, list | tuple) else [out]:
                if isinstance(result, Tensor):
                    self._known[id(result)] = _propagated(func, args, known, tuple(result.shape))
                    self._alive.append(result)
        return out


def _propagated(func: Any, args: tuple, known: list[tuple[tuple[int, ...], Axes]], shape: tuple[int, ...]) -> Axes:
    """The axes of a function's output of this shape, from those of its inputs."""
    known_as = operator(func.overloadpacket.__name__)
    kind, name = (known_as.kind, known_as.name) if known_as else ("", "")
    if kind in ("window", "adaptive"):
        return _through_window(_window(name, args), known[0], shape, adaptive=kind == "adaptive")
    before = known[0][0]
    dims = list(range(len(before)))
    if kind == "reshape" and math.prod(before) == math.prod(shape):
        return known[0][1]
    if torch.Tag.pointwise in func.tags or kind == "pointwise":
        return _moved(known, shape, None)
    if name in ("permute", "transpose", "t"):
        order = args[1] if name == "permute" else _swapped(dims, *(args[1:3] or (0, 1)))
        return _moved(known, shape, {old % len(dims): new for new, old in enumerate(order)})
    if name in ("addmm", "mm"):
        return _rows_of_matrix(known[0][1], before[-1], shape[-1])
    if name == "layer_norm":
        return _moved(known, shape, {d: d for d in dims[: len(dims) - len(args[1])]})
    if name == "pad" and len(before) == len(shape) == 4:
        top, left = (args[1][2], args[1][0]) if len(args[1]) == 4 else (0, args[1][0])
        return _through_window([[1, 1], [1, 1], [top, left], [1, 1]], known[0], shape, adaptive=False)
    if name in ("softmax", "log_softmax") or kind in ("reduction", "parts", "selection"):
        return _moved(known, shape, _kept(kind in ("parts", "selection"), name, args, len(dims), len(shape)))
    return _moved(known, shape, {})


def _rows_of_matrix(both: Axes, features: int, outputs: int) -> Axes:
    """A linear layer: rows keep what they see, however many dimensions they stand for; the features of a row are mixed."""
    rows, columns = (
        Axis(axis.inner // features * outputs, axis.reach) if axis.inner % features == 0 else whole(axis) for axis in both
    )
    return rows, columns


def _swapped(dims: list[int], a: int, b: int) -> list[int]:
    order = list(dims)
    order[a], order[b] = dims[b], dims[a]
    return order


def _kept(parts: bool, name: str, args: tuple, before: int, after: int) -> dict[int, int]:
    """Where the dimensions go that a mean does not mix, or a concatenation or a cut does not touch."""
    default = 0 if parts else None
    place = 2 if name.startswith("split") else 1
    given = args[place] if len(args) > place else default
    touched = range(before) if given is None else given if isinstance(given, list | tuple) else [given]
    gone = {d % before for d in touched}
    kept = [d for d in range(before) if d not in gone]
    return {d: d if before == after else i for i, d in enumerate(kept)}


def _moved(known: list[tuple[tuple[int, ...], Axes]], shape: tuple[int, ...], where: dict[int, int] | None) -> Axes:
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
                axes.append(_along(shape, to, axis.reach) if fits and to is not None else whole(axis))
        united.append(_united(axes))
    return united[0], united[1]


def _through_window(
    window: list[list[int]] | None, known: tuple[tuple[int, ...], Axes], shape: tuple[int, ...], *, adaptive: bool
) -> Axes:
    """`window`: kernel, stride, padding and dilation, each for rows and columns."""
    before, both = known
    result = []
    for direction, axis in enumerate(both):
        dim = len(shape) - 2 + direction
        if axis.dim(before) != dim and not (len(axis.reach) == before[dim] == 1):
            result.append(whole(axis))
        elif adaptive:
            result.append(_along(shape, dim, _adapted(axis.reach, shape[dim])))
        elif window is None:
            result.append(whole(axis))
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


def _window(name: str, args: tuple) -> list[list[int]] | None:
    """Kernel, stride, padding and dilation of a call, each for rows and columns; None where they are not fixed."""
    if name == "conv2d":
        return _convolution(args)
    return _pool(args, dilated=name == "max_pool2d") if name in ("max_pool2d", "avg_pool2d") else None


@torch.no_grad()
def reach_of_layers(
    network: Network, channels: int, height: int, width: int
) -> tuple[dict[str, Axes], dict[str, tuple[str, ...]]]:
    """Axes of every submodule that gives maps, as far as the module runs on a picture of that size, and the functions before
    each submodule that are not known."""
    module = network.module
    names = {child: name for name, child in module.named_modules() if name}
    state = {name: tensor.to("meta") for name, tensor in [*module.named_parameters(), *module.named_buffers()]}
    dtype = next((tensor.dtype for tensor in state.values() if tensor.is_floating_point()), torch.float32)
    picture = torch.empty(1, channels, height, width, device="meta", dtype=dtype)
    propagation = _Propagation(picture)
    found: dict[str, Axes] = {}
    unknown: dict[str, tuple[str, ...]] = {}
    channels_at = {name: layer.layout.channel for name, layer in network.layers.items()}

    def hook(child: nn.Module, inputs: Any, output: Any) -> None:
        tensor = tensor_of(output)
        unknown[names[child]] = tuple(dict.fromkeys(propagation.unknown))
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
        return found, unknown
    return found, unknown
