"""How a layer's output lies: which axis is its channels, which are places of the picture. Measured, not taken from its kind.

A second run on a batch of two pictures of another size shows which axes grow with the picture and which with the batch. Where a
network takes one size only, the shapes must do: two equal axes are places, and so is one that counts the patches of a grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

Kind = Literal["vector", "maps", "tokens", "sequence"]
Size = tuple[int, int]

# Tokens that may stand before those of the patches: class, distillation, registers.
_MOST_EXTRA = 8
_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)


@dataclass(frozen=True)
class Layout:
    """`channel`: the axis of channels in the tensor as the module gives it. `extra`: of tokens, how many others stand before
    those of the patches. `batched`: its first axis is the batch alone, not the batch times windows."""

    kind: Kind = "maps"
    channel: int = 1
    extra: int = 0
    batched: bool = True

    def canonical(self, tensor: Tensor, batch: int, size: Size) -> Tensor:
        """(B, C) of a vector, (B, C, h, w) of maps and tokens, (B, C, N) of a sequence, for pictures of that (H, W)."""
        if self.kind == "vector":
            return tensor[:, None] if tensor.ndim == 1 else tensor
        if self.kind == "maps":
            return tensor if self.channel == 1 else tensor.movedim(self.channel, 1)
        if self.kind == "tokens":
            rows = tensor if self.channel == 1 else tensor.movedim(self.channel, 1)
            rows = rows[:, :, self.extra :]
            grid = grid_of(rows.shape[2], size)
            return rows if grid is None else rows.reshape(*rows.shape[:2], *grid)
        axis = self.channel
        if not self.batched:
            tensor, axis = tensor.reshape(batch, -1, *tensor.shape[1:]), axis + 1
        return tensor.movedim(axis, 1).flatten(2)

    def mask(self, tensor: Tensor, masks: Tensor) -> Tensor:
        """The tensor as the module gives it, each channel times its number: `masks` (K, C), K 1 or the batch."""
        if not self.batched and len(masks) > 1:
            masks = masks.repeat_interleave(max(1, len(tensor) // len(masks)), 0)
        shape = [len(masks), *[1] * (tensor.ndim - 1)]
        if tensor.ndim > 1:
            shape[self.channel] = masks.shape[1]
        return tensor * masks.to(tensor).view(shape)


def grid_of(count: int, size: Size) -> Size | None:
    """Rows and columns of `count` patches that lie over a picture of that (height, width); None where none fit."""
    height, width = size
    ideal = math.sqrt(count * height / max(width, 1))
    fitting = [rows for rows in range(max(1, int(ideal * 0.7)), int(ideal * 1.4) + 2) if count % rows == 0]
    if not fitting:
        return None
    rows = min(fitting, key=lambda rows: abs(math.log(rows / ideal)))
    return rows, count // rows


@dataclass(frozen=True)
class Seen:
    """What a module gave on one run: its class and the tensor's shape, batch included."""

    module: nn.Module
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Runs:
    """The sizes of the pictures of two runs, the first of a single picture, the second of two."""

    one: Size
    two: Size

    @property
    def grown(self) -> bool:
        return self.one != self.two


def layouts(one: dict[str, Seen], two: dict[str, Seen], runs: Runs) -> dict[str, Layout]:
    """The layout of every layer of the first run."""
    grids = {
        (seen.shape[2], seen.shape[3]) for seen in one.values() if len(seen.shape) == 4 and isinstance(seen.module, nn.Conv2d)
    }
    return {name: _layout(seen, two[name].shape if name in two else None, runs, grids) for name, seen in one.items()}


def _layout(seen: Seen, other: tuple[int, ...] | None, runs: Runs, grids: set[Size]) -> Layout:
    shape = seen.shape
    if other is None or len(other) != len(shape):
        return _by_shape(seen, True, runs.one, grids)
    batched = shape[0] == 1 and other[0] == 2
    if len(shape) <= 2:
        return Layout("vector") if batched else Layout("sequence", len(shape) - 1, batched=False)
    growing = [axis for axis in range(1, len(shape)) if shape[axis] != other[axis]]
    if not batched or len(shape) > 4:
        return Layout("sequence", _channels(seen, growing), batched=batched)
    if not runs.grown or not growing:
        return _by_shape(seen, batched, runs.one, grids)
    if len(shape) == 3:
        return _tokens(seen, other, growing, runs)
    if growing in ([2, 3], [1, 2]) and _is_map([shape[i] for i in growing], [other[i] for i in growing], runs):
        return Layout("maps", 1 if growing == [2, 3] else 3)
    return Layout("sequence", _channels(seen, growing))


def _channels(seen: Seen, growing: Sequence[int]) -> int:
    """The axis of channels where places are no grid: one that does not grow, the last unless the module knows better."""
    still = [axis for axis in range(1, len(seen.shape)) if axis not in growing] or [len(seen.shape) - 1]
    return 1 if isinstance(seen.module, _CHANNELS_FIRST) and 1 in still else still[-1]


def _is_map(small: Sequence[int], large: Sequence[int], runs: Runs) -> bool:
    """Whether both axes grow as the picture's sides do, not as its area (attention from every patch to every other)."""
    area = math.prod(runs.two) / math.prod(runs.one)
    sides = [after / before for before, after in zip(runs.one, runs.two, strict=True)]
    grown = [after / before for before, after in zip(small, large, strict=True)]
    return all(abs(g - side) <= abs(g - area) or n <= 4 for g, side, n in zip(grown, sides, small, strict=True))


def _tokens(seen: Seen, other: tuple[int, ...], growing: Sequence[int], runs: Runs) -> Layout:
    if len(growing) != 1:
        return Layout("sequence", 2)
    axis = growing[0]
    channel = 3 - axis
    for extra, (rows, columns) in _grids(seen.shape[axis], runs.one):
        pitches = {math.ceil(runs.one[0] / rows), max(1, runs.one[0] // rows)}
        for pitch in pitches:
            sides = [{side // pitch, math.ceil(side / pitch)} for side in runs.two]
            if rows == columns and other[axis] - extra in {h * w for h in sides[0] for w in sides[1]}:
                return Layout("tokens", channel, extra)
    return Layout("sequence", channel)


def _grids(count: int, size: Size) -> Iterator[tuple[int, Size]]:
    """Square grids of patches among so many tokens, with the number of other tokens."""
    for extra in range(_MOST_EXTRA + 1):
        side = math.isqrt(max(0, count - extra))
        if side > 1 and side * side == count - extra:
            yield extra, (side, side)


def _by_shape(seen: Seen, batched: bool, size: Size, grids: set[Size]) -> Layout:
    """Where the picture's size cannot change."""
    shape = seen.shape
    if len(shape) <= 2:
        return Layout("vector")
    if len(shape) == 3:
        return _tokens_by_shape(seen, grids)
    if len(shape) > 4:
        return Layout("sequence", _channels(seen, []), batched=batched)
    first, second, third = shape[1:]
    conv = isinstance(seen.module, _CHANNELS_FIRST)
    last = isinstance(seen.module, nn.Linear) or type(seen.module) is nn.LayerNorm
    counts = {rows * columns + extra for rows, columns in grids for extra in range(_MOST_EXTRA + 1)}
    if second == third and (conv or first != second or not last):
        attention = not conv and second in counts and (second, third) not in grids
        return Layout("sequence", 1) if attention else Layout("maps", 1)
    if first == second and not conv:
        return Layout("maps", 3)
    return Layout("maps", 1) if conv else Layout("sequence", 3)


def _tokens_by_shape(seen: Seen, grids: set[Size]) -> Layout:
    sides = {rows for rows, columns in grids if rows == columns and rows > 1}
    last = isinstance(seen.module, nn.Linear | nn.MultiheadAttention) or type(seen.module) is nn.LayerNorm
    found: list[tuple[bool, int, int]] = []  # the likeliest first: a grid that a convolution has, tokens before channels
    for axis in (1,) if last else (1, 2):
        for extra, (side, _) in _grids(seen.shape[axis], (0, 0)):
            if side in sides or extra <= 1:
                found.append((side not in sides, axis, extra))
    if not found:
        return Layout("sequence", 2)
    _, axis, extra = min(found)
    return Layout("tokens", 3 - axis, extra)
