"""Folding BatchNorm into the convolution before it: the same function in eval mode, fewer passes over memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrize import is_parametrized
from torch.overrides import TorchFunctionMode

from cnnvis_cli.engine.network.layers import hooked


class _Uses(TorchFunctionMode):
    """Counts how many functions read each tensor, and keeps the tensors alive so that their ids stay theirs."""

    def __init__(self) -> None:
        self.count: Counter[int] = Counter()
        self.alive: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(True for _ in _tensors(result)):  # reading .shape or .dim() is no use of the values
            for tensor in _tensors((args, kwargs)):
                self.alive.append(tensor)
                self.count[id(tensor)] += 1
        return result


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(tuple(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


def _is_plain(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    """Whether a convolution's weights are its own tensors, used as they are, and both modules do no more than their kind.

    Weights that are computed before each pass (weight or spectral normalization, pruning) hang on hooks or parametrizations,
    or a class of its own standardizes them; a BatchNorm of a class of its own may hold a rectifier.
    """
    own = type(convolution).forward is nn.Conv2d.forward and type(convolution)._conv_forward is nn.Conv2d._conv_forward
    own = own and type(norm).forward is nn.BatchNorm2d.forward
    tensors = isinstance(convolution._parameters.get("weight"), Tensor)
    hooks = any(len(kept) for child in (convolution, norm) for kept in (child._forward_pre_hooks, child._forward_hooks))
    return own and tensors and not hooks and not is_parametrized(convolution) and not is_parametrized(norm)


@torch.no_grad()
def fold(module: nn.Module, example: Tensor) -> Callable[[], None]:
    """Fold, in place, every BatchNorm2d whose input is a plain convolution's output that nothing else reads.

    `module` in eval mode, `example` an input (1, C, H, W) it accepts. The BatchNorm becomes an Identity, so names stay.
    Which ones qualify is seen on one run of `example`: this holds for any code, not only for Sequentials. Returns what
    takes it back.
    """
    names = {child: name for name, child in module.named_modules()}
    convolutions: dict[int, nn.Conv2d] = {}
    pairs: dict[nn.BatchNorm2d, tuple[nn.Conv2d, int]] = {}
    calls: Counter[nn.Module] = Counter()

    def hook(child: nn.Module, inputs: tuple, output: Any) -> None:
        calls[child] += 1
        if isinstance(child, nn.Conv2d):
            convolutions[id(output)] = child
        elif isinstance(child, nn.BatchNorm2d) and id(inputs[0]) in convolutions:
            pairs[child] = convolutions[id(inputs[0])], id(inputs[0])

    watched: dict[nn.Module, Any] = {child: hook for child in names if isinstance(child, nn.Conv2d | nn.BatchNorm2d)}
    replaced: list[tuple[str, nn.Module]] = []
    if any(isinstance(child, nn.BatchNorm2d) for child in watched):
        uses = _Uses()
        with hooked(watched), uses:
            module(example)
        for norm, (convolution, tensor) in pairs.items():
            once = uses.count[tensor] == 1 and calls[norm] == calls[convolution] == 1
            if once and norm.running_mean is not None and _is_plain(convolution, norm):
                replaced += [(names[convolution], convolution), (names[norm], norm)]
                _replace(module, names[convolution], fuse_conv_bn_eval(convolution, norm).requires_grad_(False))
                _replace(module, names[norm], nn.Identity())

    def take_back() -> None:
        for name, child in replaced:
            _replace(module, name, child)

    return take_back


def _replace(root: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, new)
