"""Units that are silent at the start: a rectifier passes no gradient there, and the picture would stay as it began.

Olah, Mordvintsev and Schubert 2017 let it pass for the first steps, and only where nothing else comes through: of a picture
whose whole gradient a rectifier stops, what would raise a unit below the rectifier's range goes through, and what would lower
one above it (ReLU6 and the hard functions have two ends).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from cnnvis_cli.engine.network.operators import middle_of_range

# Steps for which gradients pass silent rectifiers.
FIRST_STEPS = 16


class PassingRectifiers(TorchFunctionMode):
    """Within the block, gradients pass rectifiers that would stop the whole gradient of a picture."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        middle = middle_of_range(getattr(func, "__name__", ""), args, kwargs)
        values = args[0] if args else kwargs.get("input")
        # Values (B,) are an objective's own.
        units = isinstance(values, Tensor) and values.ndim > 1 and values.requires_grad and torch.is_grad_enabled()
        if middle is None or not isinstance(values, Tensor) or not units:
            return func(*args, **kwargs)
        if func.__name__.endswith("_") and not func.__name__.startswith("__"):  # in place: its input is gone on the way back
            return func(*args, **kwargs)
        kwargs.pop("inplace", None)
        rest = args[1:]
        return _Passing.apply(values, lambda x: func(x, *rest, **kwargs), middle)


class _Passing(torch.autograd.Function):
    """A function applied value by value, with another way back where its own is blocked."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, function: Callable[[Tensor], Tensor], middle: float) -> Tensor:
        ctx.save_for_backward(values)
        ctx.function, ctx.middle = function, middle
        return function(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (values,) = ctx.saved_tensors
        with torch.enable_grad():
            leaf = values.detach().requires_grad_()
            (slope,) = torch.autograd.grad(ctx.function(leaf).sum(), leaf)
        own = gradient * slope
        blocked = (own.flatten(1).abs().amax(1) == 0).view(-1, *[1] * (own.ndim - 1))
        below = (values < ctx.middle) & (gradient > 0)
        above = (values >= ctx.middle) & (gradient < 0)
        passed = torch.where((slope == 0) & (below | above), gradient, torch.zeros_like(gradient))
        return torch.where(blocked, passed, own), None, None
