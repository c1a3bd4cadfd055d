"""A network evaluated on many pictures that differ from a clean one only in a rectangle: only what can change is recomputed.

The clean run is taped and its activations are kept. For each changed rectangle every map has a box outside which it is clean
(`reach`). A convolution or pool is applied to the box's surroundings, cut out of the clean map with the changed box pasted
into it; other functions to the box alone. Boxes that cover most of a map are completed to it, and from there on the functions
run as they stand. Exact up to the order of floating-point sums.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from cnnvis_cli.engine.arithmetic import packed_functions
from cnnvis_cli.engine.locality.intervals import Interval, intervals, local, sliding, unsupported
from cnnvis_cli.engine.locality.trace import Step, record
from cnnvis_cli.engine.network.activations import IMAGES
from cnnvis_cli.engine.network.network import Network

# A box that covers this share of a map is completed: beyond it cutting and pasting cost more than they save.
COVERED = 0.85
# Floats that one batch of boxes may take in its largest tensor.
LARGEST = 24_000_000


class Unsupported(Exception):
    """This network cannot be evaluated from a tape. The message says which functions stand in the way."""


@dataclass(frozen=True)
class _Place:
    """Upper left corners (B,) and size of equal boxes in a map, one per picture."""

    top: Tensor
    left: Tensor
    height: int
    width: int

    def same(self, other: _Place) -> bool:
        sizes = (self.height, self.width) == (other.height, other.width)
        return sizes and torch.equal(self.top, other.top) and torch.equal(self.left, other.left)


@dataclass(frozen=True)
class _Box:
    """The part of a map (B, C, height, width) that may differ from the clean one."""

    data: Tensor
    place: _Place


class Incremental:
    """The activations of a network on a picture of which rectangles are replaced. Build once per picture, call per batch.

    `image` (3, H, W), `fill` (3, H, W): what stands in a replaced rectangle, sRGB in [0, 1]. `rows`, `columns`: (n, 2), (m, 2)
    whole numbers, first and last + 1 of each; a rectangle is a pair of both. Raises Unsupported.
    """

    def __init__(self, network: Network, image: Tensor, fill: Tensor, layers: frozenset[str], rows: Tensor, columns: Tensor):
        self.network = network
        self.tape = record(network, image[None], layers)
        if unsupported(self.tape):
            raise Unsupported(f"{network.name} uses {', '.join(unsupported(self.tape))}")
        self.fill = fill.permute(1, 2, 0).reshape(-1, 3)
        self.reach = [intervals(self.tape, axis, places[:, 0], places[:, 1]) for axis, places in enumerate((rows, columns))]
        self.rows: dict[int, Tensor] = {}
        packs = network.faster is not None and network.faster.on and network.device.type == "cpu"
        self.faster = packed_functions() if packs else nullcontext()
        self.last_use = {
            number: index for index, step in enumerate(self.tape.steps) for number in (*step.outputs, *step.inputs)
        }
        self.last_use |= dict.fromkeys(self.tape.outputs.values(), len(self.tape.steps))

    def work(self, axis: int) -> Tensor:
        """(n,) multiplications, up to a factor, that each interval of an axis makes necessary."""
        total = torch.zeros(len(self.reach[axis][0][0]), dtype=torch.float64)  # type: ignore[index]
        for step in self.tape.steps:
            window, interval = sliding(step), self.reach[axis][step.outputs[0]]
            if window is not None and interval is not None:
                total += window.work * (interval[1] - interval[0]) * self._size(step.outputs[0])[1 - axis]
        return total

    def saving(self) -> float:
        """The work of whole maps over the mean work of boxes, sliding windows only: how many times faster this can be."""
        whole = boxed = 0.0
        for step in self.tape.steps:
            window = sliding(step)
            if window is None:
                continue
            sides = self._size(step.outputs[0])
            work, share = window.work * math.prod(sides), 1.0
            for axis in (0, 1):
                interval = self.reach[axis][step.outputs[0]]
                share *= float((interval[1] - interval[0]).double().mean()) / sides[axis] if interval is not None else 1.0
            whole, boxed = whole + work, boxed + work * share
        return whole / max(boxed, 1.0)

    def largest(self) -> int:
        """Floats per picture in the largest tensor that a batch holds."""
        floats = 1
        for number, value in enumerate(self.tape.values):
            sides = [self.reach[axis][number] for axis in (0, 1)]
            places = math.prod(int((side[1] - side[0]).amax()) + 2 for side in sides if side is not None)
            floats = max(floats, min(value.shape[1] * places, value.numel()) if None not in sides else value.numel())
        return floats

    @torch.no_grad()
    def __call__(self, rows: Tensor, columns: Tensor) -> dict[str, Tensor]:
        """Activations (len(rows) * len(columns), ...) for every pair of the rows' and columns' numbers, row by row."""
        self.picked = rows.repeat_interleave(len(columns)), columns.repeat(len(rows))
        values: dict[int, _Box | Tensor] = {0: self._replaced()}
        with self.network.arithmetic(), self.faster:
            for index, step in enumerate(self.tape.steps):
                values |= zip(step.outputs, self._evaluate(step, values), strict=True)
                for number in {*step.inputs, *step.outputs}:
                    if self.last_use[number] <= index:
                        del values[number]
        return _Acts(self, {name: self._whole(number, values[number]) for name, number in self.tape.outputs.items()})

    def images(self) -> Tensor:
        """The pictures (B, 3, H, W) of the last call."""
        return self._whole(0, self._replaced())

    def _replaced(self) -> _Box:
        """The boxes of the pictures themselves: fill inside each rectangle, the picture where that is smaller than the box."""
        place = self._place(0)
        data = self._cut(0, place)
        numbers = self._numbers(0, place)
        inside = torch.ones_like(numbers, dtype=torch.bool)
        for axis, start, size in ((0, place.top, place.height), (1, place.left, place.width)):
            low, high = (bound[self.picked[axis]][:, None] for bound in self._interval(axis, 0))
            position = start[:, None] + torch.arange(size)
            covered = ((position >= low) & (position < high)).to(inside.device)
            inside &= covered[:, :, None] if axis == 0 else covered[:, None, :]
        numbers[~inside] = 0  # any valid one: not used
        fill = self.fill[numbers].permute(0, 3, 1, 2)
        return _Box(torch.where(inside[:, None], fill, data), place)

    def _evaluate(self, step: Step, values: dict[int, _Box | Tensor]) -> tuple[_Box | Tensor, ...]:
        boxed = all(isinstance(values[number], _Box) for number in step.inputs)
        window = sliding(step) if boxed else None
        place = self._place(step.outputs[0]) if window or (boxed and local(step, self.tape)) else None
        if place is None or self._covers(place, step.outputs[0]):
            whole = self._evaluate_whole(step, values)
            for number, value in zip(step.outputs, whole, strict=True):
                self._expect(step, number, value)
            return whole
        if window is None:
            return tuple(_Box(part, place) for part in step.call(lambda number: self._patch(number, values[number], place)))  # type: ignore[arg-type]
        number = step.inputs[0]
        surroundings = _Place(
            place.top * window.stride[0] - window.padding[0],
            place.left * window.stride[1] - window.padding[1],
            (place.height - 1) * window.stride[0] + (window.kernel[0] - 1) * window.dilation[0] + 1,
            (place.width - 1) * window.stride[1] + (window.kernel[1] - 1) * window.dilation[1] + 1,
        )
        patch = self._patch(number, values[number], surroundings, window.outside)  # type: ignore[arg-type]
        return (_Box(window.unpadded(patch), place),)

    def _evaluate_whole(self, step: Step, values: dict[int, _Box | Tensor]) -> tuple[Tensor, ...]:
        try:
            if step.name in ("view", "reshape"):  # taped with a batch of one among its arguments
                shape = self.tape.values[step.outputs[0]].shape[1:]
                return (self._whole(step.inputs[0], values[step.inputs[0]]).reshape(len(self.picked[0]), *shape),)
            return step.call(lambda number: self._whole(number, values[number]))
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise Unsupported(f"{step.name} was taped with the shapes of one picture") from None

    def _expect(self, step: Step, number: int, value: Tensor) -> None:
        if value.shape != (len(self.picked[0]), *self.tape.values[number].shape[1:]):
            raise Unsupported(f"{step.name} does not treat the pictures of a batch one by one")

    def _interval(self, axis: int, number: int) -> Interval:
        interval = self.reach[axis][number]
        assert interval is not None
        return interval

    def _size(self, number: int) -> tuple[int, int]:
        height, width = self.tape.values[number].shape[2:]
        return height, width

    def _place(self, number: int) -> _Place:
        """Where the boxes of a map stand for the pictures at hand, all as large as the largest."""
        starts, sizes = [], []
        for axis, side in enumerate(self._size(number)):
            low, high = (bound[self.picked[axis]] for bound in self._interval(axis, number))
            sizes.append(int((high - low).amax()))
            starts.append(low.clamp(max=side - sizes[-1]))
        return _Place(starts[0], starts[1], sizes[0], sizes[1])

    def _covers(self, place: _Place, number: int) -> bool:
        return place.height * place.width >= COVERED * math.prod(self._size(number))

    def _clean(self, number: int) -> Tensor:
        """A clean map as rows of channels (height * width + 1, C), the last row for what stands outside."""
        if number not in self.rows:
            value = self.tape.values[number]
            rows = value.new_empty(value[0, 0].numel() + 1, value.shape[1])
            rows[:-1] = value[0].flatten(1).T
            self.rows[number] = rows
            # The tape's copy becomes a view of these rows, so that nothing is kept twice.
            self.tape.values[number] = rows[:-1].view(1, *value.shape[2:], -1).permute(0, 3, 1, 2)
        return self.rows[number]

    def _numbers(self, number: int, place: _Place) -> Tensor:
        """(B, height, width) row numbers of a place in a clean map; places outside get the last row."""
        height, width = self._size(number)
        rows = place.top[:, None] + torch.arange(place.height)
        columns = place.left[:, None] + torch.arange(place.width)
        rows, columns = rows.to(self.fill.device), columns.to(self.fill.device)
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
        return torch.where(inside, (rows * width)[:, :, None] + columns[:, None, :], height * width)

    def _cut(self, number: int, place: _Place, outside: float = 0.0) -> Tensor:
        """(B, C, height, width) out of the clean map, in channels_last."""
        rows = self._clean(number)
        rows[-1] = outside
        cut = rows.index_select(0, self._numbers(number, place).flatten())
        return cut.view(len(place.top), place.height, place.width, -1).permute(0, 3, 1, 2)

    def _patch(self, number: int, value: _Box, place: _Place, outside: float = 0.0) -> Tensor:
        """A place of a map as it now is: clean, with the changed box pasted into it."""
        if place.same(value.place):
            return value.data
        patch = self._cut(number, place, outside)
        box, data = value.place, value.data.permute(0, 2, 3, 1)
        rows = (box.top - place.top)[:, None] + torch.arange(box.height)
        columns = (box.left - place.left)[:, None] + torch.arange(box.width)
        inside = ((rows >= 0) & (rows < place.height))[:, :, None] & ((columns >= 0) & (columns < place.width))[:, None, :]
        picture = torch.arange(len(rows))[:, None, None] * (place.height * place.width)
        target = picture + (rows * place.width)[:, :, None] + columns[:, None, :]
        source = data.reshape(-1, data.shape[-1])
        if not inside.all():  # a stride that skips the box's edge, or a box larger than its own change
            source = source[inside.flatten().to(source.device)]
            target = target[inside]
        flat = patch.permute(0, 2, 3, 1).view(-1, data.shape[-1])
        flat.index_copy_(0, target.flatten().to(flat.device), source)
        return patch

    def _whole(self, number: int, value: _Box | Tensor) -> Tensor:
        """The full map of every picture."""
        if isinstance(value, Tensor):
            return value
        zeros = torch.zeros_like(value.place.top)
        height, width = self._size(number)
        return self._patch(number, value, _Place(zeros, zeros, height, width))


class _Acts(dict[str, Tensor]):
    """Activations by layer. The pictures themselves are put together only for a target that reads them."""

    def __init__(self, pictures: Incremental, layers: dict[str, Tensor]):
        super().__init__(layers)
        self.pictures = pictures

    def __missing__(self, name: str) -> Tensor:
        if name != IMAGES:
            raise KeyError(name)
        return self.pictures.images()
