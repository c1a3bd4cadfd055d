"""The table of a network's layers: what each is, how often it is called, what comes out, how much of the picture it sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from cnnvis_cli.engine.network.layouts import Layout, Runs, Seen, Size, layouts
from cnnvis_cli.engine.network.shapes import ShapesAlone

# Names no submodule: what the network returns, as class scores.
OUTPUT = "<output>"


@dataclass(frozen=True)
class Layer:
    """One named submodule. `shape`: its output without the batch, at the network's own input size and in the order in which
    `activations` gives it: (C, h, w) of maps, (C, N) of a sequence, (C,) of a vector. `order`: when it finishes.

    `calls`: how often a forward pass calls it (a shared ReLU more than once); its activation is that of the last call.
    `layout`: how its output lies as the module gives it.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    order: int
    calls: int
    layout: Layout = field(default_factory=Layout)

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def spatial(self) -> bool:
        """Whether it gives maps (C, H, W) rather than a vector or a sequence."""
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


def probe_layers(module: nn.Module, example: Tensor) -> dict[str, Layer]:
    """Run `example` (1, C, H, W), normalized, through the module and note every submodule that is called.

    A second run, of two pictures of another size where the module takes one, tells how each output lies.
    """
    height, width = example.shape[2:]
    first, orders = _seen(module, example)
    larger, second = _grown(module, example)
    runs = Runs((height, width), larger)
    lie = layouts(first, second, runs)
    table = {}
    for name in sorted(first, key=lambda name: orders[name][0]):
        empty = torch.empty(first[name].shape, device="meta")
        shape = tuple(lie[name].canonical(empty, 1, (height, width)).shape[1:])
        kind = type(first[name].module).__name__
        table[name] = Layer(name, kind, shape, orders[name][0], orders[name][1], lie[name])
    return table


Orders = dict[str, tuple[int, int]]


@torch.no_grad()
def _seen(module: nn.Module, example: Tensor, state: dict[str, Tensor] | None = None) -> tuple[dict[str, Seen], Orders]:
    """What every submodule gave, and (its place in the order, how often it was called). `state`: other tensors for its own."""
    names = {child: name for name, child in module.named_modules() if name}
    seen: dict[str, Seen] = {}
    orders: dict[str, tuple[int, int]] = {}
    order = 0

    def hook(child: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal order
        tensor = tensor_of(output)
        if tensor is not None and tensor.ndim:
            order += 1
            name = names[child]
            seen[name] = Seen(child, tuple(tensor.shape))
            orders[name] = order, orders.get(name, (0, 0))[1] + 1

    with hooked(dict.fromkeys(names, hook)), OutOfPlace():
        module(example) if state is None else functional_call(module, state, (example,))
    return seen, orders


def _grown(module: nn.Module, example: Tensor) -> tuple[Size, dict[str, Seen]]:
    """A run on two pictures of another size, or of the same where no other is taken; without values where that is possible."""
    _, channels, height, width = example.shape
    state = {name: t.to("meta") for name, t in [*module.named_parameters(), *module.named_buffers()]}
    sizes = [(height + 32, width + 64), (height + 32, width + 32), (2 * height, 2 * width), (height, width)]
    for size in sizes:
        with suppress(Exception), ShapesAlone():  # a size is refused in as many ways as there are networks
            return size, _seen(module, torch.empty(2, channels, *size, device="meta", dtype=example.dtype), state)[0]
    for size in sizes:  # modules that look at values
        with suppress(Exception):
            return size, _seen(module, example.new_zeros(2, channels, *size))[0]
    return (height, width), {}
