"""The places in many pictures that excite each unit most, kept while the pictures stream by."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class TopPatches:
    """The `count` best pictures of each of `units` units so far, one place per picture; memory does not grow with pictures.

    `values` (units, count), best first, -inf where there is none yet; `pictures`, `rows`, `columns` (units, count): number of
    the picture in the stream, and where in the layer's map the unit stands.
    """

    units: int
    count: int
    values: Tensor = field(init=False)
    places: Tensor = field(init=False)  # (3, units, count): picture, row, column

    def __post_init__(self) -> None:
        self.values = torch.full((self.units, self.count), -torch.inf)
        self.places = torch.full((3, self.units, self.count), -1, dtype=torch.long)

    @property
    def pictures(self) -> Tensor:
        return self.places[0]

    @property
    def rows(self) -> Tensor:
        return self.places[1]

    @property
    def columns(self) -> Tensor:
        return self.places[2]

    def update(self, maps: Tensor, numbers: Tensor) -> None:
        """Take in maps (B, units, h, w), or (B, units) of a layer without places, of the pictures `numbers` (B,)."""
        width = maps.shape[3] if maps.ndim == 4 else 1
        best, where = (result.cpu().T for result in maps.reshape(*maps.shape[:2], -1).max(2))
        places = torch.stack([numbers.cpu().expand_as(where), where // width, where % width])
        values = torch.cat([self.values, best.float()], dim=1)
        self.values, order = values.topk(self.count, dim=1)
        self.places = torch.cat([self.places, places], dim=2).gather(2, order.expand(3, -1, -1))
