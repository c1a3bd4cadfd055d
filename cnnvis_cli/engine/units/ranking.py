"""Which units of a layer answer a picture most, told apart from what the picture's border does to them."""

from __future__ import annotations

from torch import Tensor

# Maps with fewer rows or columns are all border.
_LEAST = 6


def interior(maps: Tensor) -> Tensor:
    """Maps (..., h, w) without the ring of places along the border, where padding makes units answer to the picture's end: a
    place, or a tenth of the side of large maps. Maps too small for that are left whole."""
    height, width = maps.shape[-2:]
    if min(height, width) < _LEAST:
        return maps
    down, across = (max(1, side // 10) for side in (height, width))
    return maps[..., down : height - down, across : width - across]


def strengths(maps: Tensor) -> Tensor:
    """(C,) how strongly each unit answers, from maps (C, h, w): the mean of the highest twentieth of its places off the border.
    Of units whose peaks are cut off at one value (ReLU6) the one that is there more often is then the stronger."""
    places = interior(maps).flatten(1)
    return places.topk(max(1, places.shape[1] // 20), dim=1).values.mean(1)
