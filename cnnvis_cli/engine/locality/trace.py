"""A network's run on one picture, written down as the list of tensor functions that were called.

Recorded at the level of torch functions, so that any code can be taped: modules, functionals, operators, control flow.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.network.operators import Operator, operator, plain_name

# Questions whose answers are no tensors and depend on the values: a tape cannot answer them for another picture.
_VALUE_DEPENDENT = {"item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__setitem__", "equal", "allclose"}


@dataclass(frozen=True)
class Ref:
    """A tensor of the tape, by its number."""

    number: int


@dataclass(frozen=True)
class Step:
    """One call of a torch function. `args`, `kwargs`: with a `Ref` for each taped tensor. `outputs`: numbers of its results."""

    func: Callable
    args: tuple
    kwargs: dict[str, Any]
    outputs: tuple[int, ...]

    @property
    def name(self) -> str:
        """The function's name, in one spelling for all its forms."""
        return plain_name(self.func.__name__)

    @property
    def operator(self) -> Operator | None:
        return operator(self.func.__name__)

    @property
    def inplace(self) -> bool:
        return self.func.__name__.endswith("_") and not self.func.__name__.startswith("__")

    @property
    def inputs(self) -> list[int]:
        return [ref.number for ref in _found((self.args, self.kwargs), Ref)]

    @property
    def constants(self) -> list[Tensor]:
        """The tensors among its arguments that do not depend on the picture."""
        return _found((self.args, self.kwargs), Tensor)

    def call(self, values: Callable[[int], Tensor]) -> tuple[Tensor, ...]:
        """Call the function with other tensors in place of the taped ones, none of which it changes."""
        args, kwargs = _mapped((self.args, self.kwargs), Ref, lambda ref: values(ref.number))
        if self.inplace:
            args = (args[0].clone(), *args[1:])
        return tuple(_found(self.func(*args, **kwargs), Tensor))


@dataclass
class Tape:
    """`steps` in order, `values[n]`: the tensor with number n (0: the picture), `outputs`: numbers of the layers asked for."""

    steps: list[Step]
    values: list[Tensor]
    outputs: dict[str, int]


class _Recorder(TorchFunctionMode):
    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.values: list[Tensor] = [images]
        self.numbers = {id(images): 0}
        self.alive: list[Tensor] = [images]  # a tensor that died would give its id to another

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        used = [self.numbers[id(t)] for t in _found((args, kwargs), Tensor) if id(t) in self.numbers]
        if not used:
            return func(*args, **kwargs)
        taped_args, taped_kwargs = _mapped(
            (args, kwargs), Tensor, lambda t: Ref(self.numbers[id(t)]) if id(t) in self.numbers else t
        )
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.startswith("__") and id(args[0]) in self.numbers:
            self.values[self.numbers[id(args[0])]] = args[0].clone()  # func is about to overwrite it
        result = func(*args, **kwargs)
        tensors = _found(result, Tensor)
        if tensors or name in _VALUE_DEPENDENT:
            self.steps.append(Step(func, taped_args, taped_kwargs, tuple(self._number(tensor) for tensor in tensors)))
        return result

    def _number(self, tensor: Tensor) -> int:
        self.numbers[id(tensor)] = len(self.values)
        self.values.append(tensor)
        self.alive.append(tensor)
        return len(self.values) - 1


@torch.no_grad()
def record(network: Network, image: Tensor, layers: Collection[str]) -> Tape:
    """Tape the run of one picture (1, 3, H, W), sRGB in [0, 1], from the pixels to the layers, preprocessing included."""
    recorder = _Recorder(image)
    with recorder, network.plain_arithmetic():
        acts = activations(network, image, layers)
    outputs = {name: recorder.numbers[id(acts[name])] for name in layers}
    return Tape(recorder.steps, recorder.values, outputs)


def _found(values: Any, kind: type) -> list:
    """Everything of that type in nested tuples, lists and dicts."""
    if isinstance(values, kind):
        return [values]
    if isinstance(values, dict):
        values = tuple(values.values())
    return [item for value in values for item in _found(value, kind)] if isinstance(values, tuple | list) else []


def _mapped(values: Any, kind: type, change: Callable) -> Any:
    """The same nested tuples, lists and dicts with everything of that type changed."""
    if isinstance(values, kind):
        return change(values)
    if isinstance(values, dict):
        return {key: _mapped(value, kind, change) for key, value in values.items()}
    return type(values)(_mapped(value, kind, change) for value in values) if type(values) in (tuple, list) else values
