"""A stylizer's pass over pictures of any size, whole or in strips that give exactly the same.

Only the last two convolutions see the picture's full size, and of what lies between them an instance normalization wants the
mean and variance over all places. So these are gathered strip by strip, in a first walk; a second one makes the picture.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnvis_cli.engine.generators.stylizer import Stylizer

# Rows of a half-sized map beside a strip that its convolutions see: one for 3 x 3 after enlarging, one for the last 5 x 5.
_HALO = 3
# Above so many pixels the full-sized maps are not held at once.
WHOLE_AT_MOST = 1500 * 1500
STRIP = 32


@torch.no_grad()
def stylized(stylizer: Stylizer, pictures: Tensor, shares: Tensor, *, strip: int | None = None) -> Tensor:
    """(B, 3, H, W) in [0, 1]: the pass. `strip`: rows of the half-sized map at once; 0: whole; None: whole where it fits."""
    height, width = pictures.shape[-2:]
    if stylizer.down1.weight.is_contiguous(memory_format=torch.channels_last):
        pictures = pictures.contiguous(memory_format=torch.channels_last)
    strip = (0 if height * width <= WHOLE_AT_MOST else STRIP) if strip is None else strip
    if not strip:
        return stylizer(pictures, shares).contiguous()
    half = stylizer.halfway(pictures, shares, lambda layer, maps: _in_strips(layer, maps, strip))
    found = _moments(stylizer, half, strip)
    scale, shift = stylizer.norm4.factors(found, shares)
    result = torch.empty(pictures.shape, dtype=pictures.dtype, device=pictures.device)
    for first, last, top, bottom in _strips(half.shape[2], strip):
        maps = F.relu_(stylizer.up2(half[:, :, top:bottom]).mul_(scale).add_(shift))
        made = torch.sigmoid(stylizer.last(maps))[:, :, 2 * (first - top) : 2 * (last - top), :width]
        result[:, :, 2 * first : 2 * last] = made[:, :, : height - 2 * first]
    return result


def _strips(rows: int, strip: int) -> Iterator[tuple[int, int, int, int]]:
    """(first, last) rows of each strip, and (top, bottom) with its halo. The last strip is never too thin to be mirrored."""
    starts = list(range(0, rows, strip))
    if len(starts) > 1 and rows - starts[-1] <= _HALO:
        starts.pop()
    for first, last in zip(starts, [*starts[1:], rows], strict=True):
        yield first, last, max(0, first - _HALO), min(rows, last + _HALO)


def _in_strips(layer: nn.Module, maps: Tensor, strip: int) -> Tensor:
    """A layer that doubles the size, applied to strips with halos."""
    result: Tensor | None = None
    for first, last, top, bottom in _strips(maps.shape[2], strip):
        made = layer(maps[:, :, top:bottom])
        if result is None:
            size = len(maps), made.shape[1], 2 * maps.shape[2], 2 * maps.shape[3]
            last_first = made.is_contiguous(memory_format=torch.channels_last)
            layout = torch.channels_last if last_first else torch.contiguous_format
            result = torch.empty(size, dtype=made.dtype, device=made.device, memory_format=layout)
        result[:, :, 2 * first : 2 * last] = made[:, :, 2 * (first - top) : 2 * (last - top)]
    assert result is not None
    return result


def _moments(stylizer: Stylizer, half: Tensor, strip: int) -> tuple[Tensor, Tensor] | None:
    """What the last normalization works with, summed over strips in float64."""
    norm = stylizer.norm4
    if norm.kind != "instance":
        return norm.moments(half)
    sums = squares = None
    for first, last, top, bottom in _strips(half.shape[2], strip):
        maps = stylizer.up2(half[:, :, top:bottom])[:, :, 2 * (first - top) : 2 * (last - top)]
        one, two = maps.sum((2, 3), dtype=torch.float64), maps.square().sum((2, 3), dtype=torch.float64)
        sums, squares = (one, two) if sums is None or squares is None else (sums + one, squares + two)
    assert sums is not None
    assert squares is not None
    count = 4 * half.shape[2] * half.shape[3]
    mean = sums / count
    found = mean.to(half.dtype), (squares / count - mean.square()).clamp_min(0).to(half.dtype)
    return found if norm.held is None else norm.held.mixed(norm, found)
