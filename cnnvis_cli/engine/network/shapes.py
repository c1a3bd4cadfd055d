"""Running a module on tensors without values (PyTorch's meta device), for the shapes alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cnnvis_cli.engine.network.operators import operator


def shape_alone(func: Any, args: tuple) -> Any:
    """An output without values for the commonest functions; None for others. PyTorch's own way to it imports its compiler, for
    seconds."""
    kernel = func.overloadpacket.__name__
    known = operator(kernel)
    if known is None or kernel.endswith("_") or not args or not isinstance(args[0], Tensor):
        return None
    if known.name == "conv2d":
        maps, weight, _, stride, padding, dilation, transposed = args[:7]
        fits = not transposed and maps.ndim == 4 and maps.shape[1] == weight.shape[1] * args[8]
        places = _places(maps, weight.shape[2:], stride, padding, dilation) if fits else None
        return None if places is None else maps.new_empty(len(maps), len(weight), *places)
    if kernel == "max_pool2d_with_indices":
        given: list[Any] = [*args, *([], [0, 0], [1, 1], False)[len(args) - 2 :]]
        maps, window, stride, padding, dilation, ceil = given
        places = None if ceil else _places(maps, window, stride or window, padding, dilation)
        if places is None:
            return None
        return maps.new_empty(*maps.shape[:2], *places), maps.new_empty(*maps.shape[:2], *places, dtype=torch.int64)
    return _plain_shape(known.name, known.rectifier != "", args)


def _places(maps: Tensor, *window: Any) -> list[int] | None:
    """Height and width of the output of a window (kernel, stride, padding, dilation, each for rows and columns).
    Raises RuntimeError where it does not fit."""
    if maps.ndim != 4:
        return None
    pairs = [list(values) * (2 if len(values) == 1 else 1) for values in window]
    places = [
        (side + 2 * p - d * (kernel - 1) - 1) // s + 1 for side, kernel, s, p, d in zip(maps.shape[2:], *pairs, strict=True)
    ]
    if min(places) < 1:
        raise RuntimeError("the window is larger than the map")  # as PyTorch would say
    return places


def _plain_shape(name: str, rectifier: bool, args: tuple) -> Tensor | None:
    first, rest = args[0], args[1:]
    tensors = [value for value in rest if isinstance(value, Tensor)]
    if name in ("addmm", "mm") and len(tensors) == (2 if name == "addmm" else 1):
        rows, matrix = (first, *tensors)[-2:]
        return first.new_empty(len(rows), matrix.shape[1]) if rows.shape[1] == len(matrix) else None
    if name in ("add", "sub", "mul", "div") and len(tensors) == 1:
        return first.new_empty(torch.broadcast_shapes(first.shape, tensors[0].shape))
    if tensors or (any(isinstance(value, list | tuple) for value in rest) and name not in ("adaptive_avg_pool2d", "mean")):
        return None
    if name == "adaptive_avg_pool2d" and first.ndim == 4:
        return first.new_empty(*first.shape[:2], *rest[0])
    if name == "mean" and rest and isinstance(rest[0], list | tuple):
        gone = {axis % first.ndim for axis in rest[0]}
        kept = len(rest) > 1 and bool(rest[1])
        sides = [1 if axis in gone else side for axis, side in enumerate(first.shape) if kept or axis not in gone]
        return first.new_empty(sides)
    return first.new_empty(first.shape) if (rectifier and name != "glu") or name in ("sigmoid", "hardsigmoid") else None


class DispatchMode(TorchDispatchMode):
    """A mode of PyTorch's dispatcher that does not import the compiler: nothing here is ever compiled."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Where PyTorch no longer asks this, the import is back and costs seconds; nothing else changes.
        return False


class ShapesAlone(DispatchMode):
    """Within the block, the commonest functions of tensors without values give their shape, by `shape_alone`."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if args and isinstance(args[0], Tensor) and args[0].is_meta and (out := shape_alone(func, args)) is not None:
            return out
        return func(*args, **(kwargs or {}))
