"""The table of a network's layers: what each is, how often it is called, what comes out, how much of the picture it sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Layer:
    """One named submodule. `shape`: its output without the batch, at the network's own input size. `order`: when it finishes.

    `calls`: how often a forward pass calls it (a shared ReLU more than once); its activation is that of the last call.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    order: int
    calls: int

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def spatial(self) -> bool:
        """Whether it gives maps (C, H, W) rather than a vector."""
        return len(self.shape) == 3


class OutOfPlace(TorchFunctionMode):
    """Runs functional in-place activations (`F.relu(x, inplace=True)`) out of place, so that what hooks saw stays."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("inplace") is True:
            kwargs["inplace"] = False
        return func(*args, **kwargs)


@contextmanager
def hooked(hooks: Mapping[nn.Module, Any]) -> Iterator[None]:
    """Forward hooks on these modules for the length of the block, removed also on exceptions."""
    with ExitStack() as stack:
        for module, hook in hooks.items():
            stack.callback(module.register_forward_hook(hook).remove)
        yield


def tensor_of(output: Any) -> Tensor | None:
    """The tensor that a module gave: itself, or the first of a tuple or mapping of outputs."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, dict):
        output = tuple(output.values())
    return next((item for item in output if isinstance(item, Tensor)), None) if isinstance(output, tuple | list) else None


@torch.no_grad()
def probe_layers(module: nn.Module, example: Tensor) -> dict[str, Layer]:
    """Run `example` (1, C, H, W), normalized, through the module once and note every submodule that is called."""
    names = {child: name for name, child in module.named_modules() if name}
    seen: dict[str, tuple[tuple[int, ...], int, int]] = {}
    order = 0

    def hook(child: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal order
        tensor = tensor_of(output)
        if tensor is not None:
            order += 1
            calls = seen[names[child]][2] if names[child] in seen else 0
            seen[names[child]] = (tuple(tensor.shape[1:]), order, calls + 1)

    with hooked(dict.fromkeys(names, hook)), OutOfPlace():
        module(example)
    kinds = {name: type(child).__name__ for child, name in names.items()}
    rows = sorted(seen.items(), key=lambda item: item[1][1])
    return {name: Layer(name, kinds[name], shape, order, calls) for name, (shape, order, calls) in rows}
