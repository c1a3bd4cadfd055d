"""Heat maps of many pictures: a sheet of them, and their means where bias shows: by class, beside where the objects are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from cnnvis_cli.commands.shared.heat_views import MOST, THUMBNAIL, View, colored, fitted_tile, overlay, scaled
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures import sheet as sheets
from cnnvis_cli.pictures.read import PictureFile, resize
from cnnvis_cli.pictures.samples import sample_boxes

# Side of a tile on the sheet of means, in pixels.
MEAN_TILE = 224


def folders_are_classes(sources: Sequence[PictureFile]) -> bool:
    """Whether the pictures lie in several folders, and several in one of them: their means are then taken by folder."""
    labels = [source.label for source in sources]
    return all(labels) and 1 < len(set(labels)) < len(labels)


def outside_box(view: View, heat: Tensor) -> dict[str, float]:
    """How much of a map (H, W) lies outside of the object's box, as a share of its absolute values, and how much of the picture
    does: a map that says nothing has the same in both. Empty where no box is known."""
    box = sample_boxes().get(view.source.name) if view.source.is_sample else None
    if box is None:
        return {}
    height, width = heat.shape
    top, left = ((view.size_of_file[axis] - view.shown.shape[axis + 2]) // 2 for axis in (0, 1))
    columns = slice(max(0, box[0] - left), min(width, max(0, box[2] - left)))
    rows = slice(max(0, box[1] - top), min(height, max(0, box[3] - top)))
    values = heat.abs()
    inside, area = float(values[rows, columns].sum()), values[rows, columns].numel()
    total = float(values.sum())
    return {"outside_box": 1 - inside / total if total else 0.0, "outside_box_area": 1 - area / values.numel()}


@dataclass
class Group:
    """Sums over the pictures of one class: maps, pictures, and the shares outside of the boxes."""

    heat: Tensor
    picture: Tensor
    count: int = 0
    boxed: int = 0
    outside: float = 0.0
    outside_area: float = 0.0

    def said(self) -> dict[str, Any]:
        """What the record says of it."""
        if not self.boxed:
            return {"pictures": self.count}
        shares = {"outside_box": self.outside / self.boxed, "outside_box_area": self.outside_area / self.boxed}
        return {"pictures": self.count, **shares}


@dataclass
class MapSheet:
    """Many maps, of which it keeps thumbnails of the first `MOST` and running means per class: memory does not grow.

    `by_folder`: a picture's class is its folder, else whatever its map was asked of.
    """

    side: int
    by_folder: bool = False
    tiles: list[Image.Image] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    groups: dict[str, Group] = field(default_factory=dict)

    def add(self, view: View, heat: Tensor, target: str, caption: str) -> dict[str, float]:
        """`heat` (H, W) in the size of the shown picture; it counts as much in the mean as any other, however strong. Returns
        the shares outside of the object's box, where that is known."""
        if len(self.tiles) < MOST:
            self.tiles.append(fitted_tile(overlay(view.shown, heat), THUMBNAIL))
            self.captions.append(caption)
        size = (self.side, self.side)
        small = F.interpolate(scaled(heat)[None, None], size, mode="area")[0, 0].cpu()
        picture = resize(view.shown, *size)[0].cpu()
        name = view.source.label if self.by_folder else target
        group = self.groups.setdefault(name, Group(torch.zeros_like(small), torch.zeros_like(picture)))
        group.count += 1
        group.heat += small
        group.picture += picture
        if shares := outside_box(view, heat):
            group.boxed += 1
            group.outside += shares["outside_box"]
            group.outside_area += shares["outside_box_area"]
        return shares

    def save(self, job: Job) -> None:
        """The two sheets, and what the means say."""
        job.results.save_image(self.sheet())
        job.results.save_image(self.mean_sheet(), "means")
        job.scores["means"] = {name: group.said() for name, group in self.means().items()}

    def sheet(self) -> Image.Image:
        return sheets.sheet(self.tiles, self.captions).image

    def means(self) -> dict[str, Group]:
        """By class, most pictures first."""
        return dict(sorted(self.groups.items(), key=lambda item: -item[1].count))

    def mean_sheet(self) -> Image.Image:
        """For each class, most pictures first: the mean picture, the mean map, and the map over the picture."""
        tiles: list[Tensor] = []
        captions: list[str] = []
        for name, group in list(self.means().items())[: MOST // 2]:
            picture, heat = group.picture / group.count, group.heat / group.count
            tiles += [picture, colored(heat), overlay(picture[None], heat)]
            share = ""
            if group.boxed:
                said = group.said()
                share = f"{said['outside_box']:.0%} off the object, {said['outside_box_area']:.0%} of area"
            captions += [f"{name.partition(',')[0]}: mean of {group.count}", "mean map", share or "map over picture"]
        columns = 3 if len(tiles) <= 12 else 6
        return sheets.sheet([fitted_tile(tile, MEAN_TILE) for tile in tiles], captions, columns=columns).image
