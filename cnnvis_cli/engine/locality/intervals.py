"""How far a change in the picture reaches in each tensor of a tape, as an interval per axis.

Rows and columns are independent of each other: a rectangle that changes in the picture changes at most a rectangle of each
map, the product of two intervals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnvis_cli.engine.locality.trace import Step, Tape

# Kinds whose output has, place by place, what the inputs had there, wherever the shapes say so.
_LOCAL = ("pointwise", "parts", "reduction")
_PER_CHANNEL = frozenset({"batch_norm", "prelu"})


@dataclass(frozen=True)
class Sliding:
    """A convolution or pool: its window per axis (rows, columns), what stands outside the map, and how to apply it unpadded."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    outside: float
    unpadded: Callable[[Tensor], Tensor]
    work: int  # multiplications per place of the output


def sliding(step: Step) -> Sliding | None:
    """The step as a sliding window, or None if it is none or of a kind that cannot be cut into boxes."""
    bind = {"conv2d": _convolution, "max_pool2d": _max_pool, "avg_pool2d": _average_pool}.get(step.name)
    return bind(*step.args, **step.kwargs) if bind else None


def _pair(value: Any) -> tuple[int, int]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values[0], values[-1]


# The next three have the signatures of the torch functions they stand for.
def _convolution(
    input: Any,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Sliding:
    rows, columns = weight.shape[-2:]
    dilation = _pair(dilation)
    if isinstance(padding, str):
        padding = [
            (size - 1) * step // 2 if padding == "same" else 0 for size, step in zip((rows, columns), dilation, strict=True)
        ]
    apply = partial(F.conv2d, weight=weight, bias=bias, stride=stride, padding=0, dilation=dilation, groups=groups)
    return Sliding((rows, columns), _pair(stride), _pair(padding), dilation, 0.0, apply, weight.numel())


def _max_pool(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Sliding | None:  # fmt: skip
    if return_indices:
        return None
    kernel, stride = _pair(kernel_size), _pair(stride or kernel_size)
    apply = partial(F.max_pool2d, kernel_size=kernel, stride=stride, dilation=dilation)
    return Sliding(kernel, stride, _pair(padding), _pair(dilation), -torch.inf, apply, 1)


def _average_pool(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Sliding | None:  # fmt: skip
    kernel, stride, padding = _pair(kernel_size), _pair(stride or kernel_size), _pair(padding)
    if ceil_mode or (padding != (0, 0) and not count_include_pad):
        return None  # the divisor then depends on the place
    apply = partial(F.avg_pool2d, kernel_size=kernel, stride=stride, divisor_override=divisor_override)
    return Sliding(kernel, stride, padding, (1, 1), 0.0, apply, 1)


def local(step: Step, tape: Tape) -> bool:
    """Whether each place of the output comes from the same place of the inputs, by the name, the shapes and the constants."""
    if step.operator is None or step.operator.kind not in _LOCAL or not step.outputs:
        return False
    shapes = [tape.values[number].shape for number in (*step.inputs, *step.outputs)]
    if any(len(shape) != 4 or shape[2:] != shapes[0][2:] for shape in shapes):
        return False
    everywhere = all(c.numel() == 1 or (c.ndim >= 3 and c.shape[-2:] == (1, 1)) for c in step.constants)
    return everywhere or step.name in _PER_CHANNEL


def unsupported(tape: Tape) -> list[str]:
    """Names of the functions on the tape that cannot be evaluated for a batch of pictures from a tape of one."""
    return sorted({step.name for step in tape.steps if step.operator is None or not step.outputs})


Interval = tuple[Tensor, Tensor]


def intervals(tape: Tape, axis: int, low: Tensor, high: Tensor) -> list[Interval | None]:
    """What a change of the picture's places low <= place < high can change in each tensor of the tape, along one axis.

    `axis`: 0 rows, 1 columns. `low`, `high`: (n,) whole numbers, n cases at once. None: a tensor that is no map any more, or
    that came from a function of whole maps.
    """
    reach: list[Interval | None] = [None] * len(tape.values)
    reach[0] = low, high
    for step in tape.steps:
        parts = [reach[number] for number in step.inputs]
        if any(part is None for part in parts):
            continue
        window = sliding(step)
        if window is not None:
            size = tape.values[step.outputs[0]].shape[2 + axis]
            reach[step.outputs[0]] = _slid(parts[0], window, axis, size)  # type: ignore[arg-type]
        elif local(step, tape):
            lows, highs = zip(*parts, strict=True)
            union = torch.stack(lows).amin(0), torch.stack(highs).amax(0)
            for number in step.outputs:
                reach[number] = union
    return reach


def _slid(interval: Interval, window: Sliding, axis: int, size: int) -> Interval:
    """The places of a sliding window's output, `size` of them, whose input touches the interval."""
    low, high = interval
    stride, padding = window.stride[axis], window.padding[axis]
    extent = (window.kernel[axis] - 1) * window.dilation[axis]
    first = torch.div(low + padding - extent + stride - 1, stride, rounding_mode="floor").clamp(0, size - 1)
    last = torch.div(high - 1 + padding, stride, rounding_mode="floor").clamp(max=size - 1)
    return first, torch.maximum(last, first) + 1
