"""What a network returns, read as one table of class scores: how is found once, on a trial run, and then it is always so.

A tensor, or a tuple, mapping or dataclass that holds one; logits, probabilities, one logit, or scores per place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from cnnvis_cli.engine.errors import Refused, did_you_mean

Form = Literal["logits", "probabilities", "one logit", "one probability"]
Path = tuple[str | int, ...]

# Where scores usually stand among several outputs.
PREFERRED = ("logits", "out", "main", "logit", "scores", "output", "prediction", "predictions")
# Below this a probability counts as 0, so that its logarithm stays a number.
_TINY = 1e-30
# Functions that only reshape or select: what stands before them is what gave the values.
_PASSING = (
    "View",
    "Squeeze",
    "Unsqueeze",
    "Reshape",
    "Select",
    "Slice",
    "ToCopy",
    "Clone",
    "Alias",
    "Clamp",
    "Permute",
    "Mean",
)


@dataclass(frozen=True)
class Reading:
    """How class scores are read from what `forward` returns.

    `path`: keys, numbers or attributes that lead to the tensor. `shape`: of the tensor without the batch, on the trial run.
    `axis`: where its classes stand; the mean is taken over all other axes but the batch. `classes`: how many there are.
    """

    path: Path = ()
    form: Form = "logits"
    axis: int = 1
    shape: tuple[int, ...] = ()
    classes: int = 0

    @property
    def binary(self) -> bool:
        """Whether two classes stand for one number: no and yes."""
        return self.form in ("one logit", "one probability")

    @property
    def per_place(self) -> bool:
        return len(self.shape) > 1

    def __call__(self, output: Any) -> Tensor:
        """Logits (B, classes), float32: of probabilities their logarithms; of one logit z, 0 and z."""
        tensor = follow(output, self.path).float()
        if tensor.ndim == 1:
            tensor = tensor[:, None]
        if tensor.ndim > 2:
            tensor = tensor.movedim(self.axis, 1).flatten(2).mean(2)
        if self.form == "probabilities":
            return tensor.clamp_min(_TINY).log()
        if self.form == "one logit":
            return torch.cat([tensor * 0, tensor], 1)
        if self.form == "one probability":
            return torch.cat([tensor.neg().add(1), tensor], 1).clamp_min(_TINY).log()
        return tensor

    def describe(self) -> str:
        """`logits (B, 10)`, `probabilities (B, 4, H, W), averaged over places`."""
        places = ["H", "W"] if len(self.shape) == 3 else ["N"] * (len(self.shape) - 1)
        sizes = [str(self.classes if not self.binary else 1) if i == self.axis - 1 else "" for i in range(len(self.shape))]
        shape = ", ".join(["B", *(size or places.pop(0) for size in sizes)])
        where = f" under {'.'.join(map(str, self.path))}" if self.path else ""
        return f"{self.form} ({shape}){where}{', averaged over places' if self.per_place else ''}"


def follow(output: Any, path: Path) -> Any:
    """What stands at a path of keys, numbers and attributes."""
    for step in path:
        named = isinstance(step, str) and not isinstance(output, Mapping)
        output = getattr(output, str(step)) if named else output[step]
    return output


def parts(output: Any) -> dict[str | int, Any]:
    """The outputs side by side in a tuple, mapping, dataclass or object, by what `follow` calls them; empty for others."""
    if isinstance(output, Mapping):
        return dict(output)
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return {name: getattr(output, name) for name in output._fields}
    if isinstance(output, list | tuple):
        return dict(enumerate(output))
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    return dict(vars(output)) if hasattr(output, "__dict__") and not isinstance(output, Tensor) else {}


def candidates(output: Any, path: Path = (), depth: int = 3) -> Iterator[tuple[Path, Tensor]]:
    """Every tensor among the outputs, those under the usual keys first."""
    if isinstance(output, Tensor):
        yield path, output
    elif depth:
        found = parts(output)
        for key in [*(key for key in PREFERRED if key in found), *(key for key in found if key not in PREFERRED)]:
            yield from candidates(found[key], (*path, key), depth - 1)


def measure(output: Any, batch: int, wanted: str = "", classes: int | None = None) -> Reading:
    """The reading of what a network gave for a batch of different pictures.

    `wanted`: a key, number or dotted path to the output to read. `classes`: how many names there are, where that is known.
    Raises Refused where there is nothing to read.
    """
    if wanted:
        path = _path(output, wanted)
        found = [(path, follow(output, path))]
        if not isinstance(found[0][1], Tensor):
            found = [((*path, *rest), tensor) for rest, tensor in candidates(found[0][1])]
    else:
        found = list(candidates(output))
    if not found:
        what = f"a {type(output).__name__}" + (" with no tensor in it" if parts(output) else "")
        raise Refused("output", "it returns nothing" if output is None else f"it returns {what}, where scores were expected")
    fitting = [(path, tensor) for path, tensor in found if tensor.ndim and len(tensor) == batch and tensor.is_floating_point()]
    if not fitting:
        raise Refused("outputs" if len(found) > 1 else "output", _unfit(found[0][1], batch))
    counted = [one for one in fitting if classes and classes in one[1].shape[1:2]]
    path, tensor = (counted if counted and not wanted else fitting)[0]
    if not bool(tensor.isfinite().all()):
        raise Refused("failed", "it answers a plain picture with values that are no finite numbers")
    return _reading(path, tensor, classes)


def _unfit(tensor: Tensor, batch: int) -> str:
    shape = tuple(tensor.shape)
    if tensor.ndim and len(tensor) == batch:
        return f"it returns values of {str(tensor.dtype).removeprefix('torch.')}, which are no scores (the number of a class?)"
    return f"it returns a tensor of shape {shape} for {batch} pictures: one row per picture was expected"


def _path(output: Any, wanted: str) -> Path:
    path: Path = ()
    for step in wanted.split("."):
        known = parts(follow(output, path))
        by_name: dict[str, str | int] = {str(key): key for key in known}
        if isinstance(here := follow(output, path), Sequence) and step.isdigit() and step not in by_name:
            by_name = {str(number): number for number in range(len(here))}  # a named tuple by number
        if step not in by_name:
            hint = did_you_mean(step, by_name)
            there = f"it has {', '.join(by_name)}" if by_name else "it returns one tensor alone"
            raise Refused("outputs", f"it returns no output '{wanted}'; {there}.{hint}")
        path = (*path, by_name[step])
    return path


def _reading(path: Path, tensor: Tensor, classes: int | None) -> Reading:
    values = tensor.detach().float()
    shape = tuple(tensor.shape[1:])
    axis = _class_axis(shape, classes)
    if values.ndim == 1:
        values = values[:, None]
    count = values.shape[axis]
    if count == 1:
        form: Form = "one probability" if _within(values) and _made_by(tensor, "Sigmoid") else "one logit"
        return Reading(path, form, axis, shape or (1,), 2)
    summed = bool(((values.sum(axis) - 1).abs() < 1e-3).all())
    return Reading(path, "probabilities" if _within(values) and summed else "logits", axis, shape, count)


def _within(values: Tensor) -> bool:
    return bool(((values >= -1e-6) & (values <= 1 + 1e-6)).all())


def _class_axis(shape: tuple[int, ...], classes: int | None) -> int:
    """Of a tensor (B, *shape): the axis as long as there are names; else the one beside two of equal length."""
    if classes and shape.count(classes) == 1:
        return 1 + shape.index(classes)
    if len(shape) == 3 and shape[0] == shape[1] != shape[2]:
        return 3
    return 2 if len(shape) == 2 else 1


def _made_by(tensor: Tensor, name: str, depth: int = 8) -> bool:
    """Whether the last function that made these values, reshaping aside, was that one."""
    node = tensor.grad_fn
    for _ in range(depth):
        if node is None or node.name().startswith(name):
            return node is not None
        if not node.name().startswith(_PASSING):
            return False
        node = node.next_functions[0][0] if node.next_functions else None
    return False


def form_of_scores(tensor: Tensor) -> str:
    """A remark on scores that are neither logits nor probabilities of classes that exclude each other; else ''."""
    values = tensor.detach().float()
    if values.ndim == 2 and values.shape[1] > 1 and _within(values) and _made_by(tensor, "Sigmoid"):
        return "its answers lie in [0, 1] and do not sum to 1 (independent ones?); they are taken as scores as they are"
    return ""
