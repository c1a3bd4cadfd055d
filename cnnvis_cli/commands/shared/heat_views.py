"""From a picture and a heat map to what is shown: overlays, the side-by-side figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from cnnvis_cli.engine.attribution.faithfulness import deletion_insertion, rivals
from cnnvis_cli.engine.attribution.targets import Target
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.pixels import luma
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures import sheet as sheets
from cnnvis_cli.pictures.color import colorize
from cnnvis_cli.pictures.read import PictureFile, resize, to_square
from cnnvis_cli.pictures.write import to_image

TILE = 320  # pixels: the longer side of a tile in a figure
THUMBNAIL = 160  # in a sheet of many
MOST = 64  # tiles on a sheet


@dataclass(frozen=True)
class View:
    """A picture as it is shown, (1, 3, H, W), and as the network sees it, (1, 3, h, w), both of the same piece of the world."""

    source: PictureFile
    shown: Tensor
    seen: Tensor
    size_of_file: tuple[int, int]  # height, width

    @property
    def size_seen(self) -> str:
        """`128 x 96 px`."""
        return f"{self.seen.shape[3]} x {self.seen.shape[2]} px"

    def enlarge(self, heat: Tensor) -> Tensor:
        """A map (h, w) of what was seen in the size of what is shown, (H, W)."""
        size = (self.shown.shape[2], self.shown.shape[3])
        return heat if heat.shape == size else F.interpolate(heat[None, None], size, mode="bilinear", align_corners=False)[0, 0]


def views(job: Job, network: Network, sources: Sequence[PictureFile], size: int | None, crop: bool) -> Iterator[View]:
    """The pictures that can be read, one after the other. `size`: short side that the network sees (default: that of its
    training pictures), both sides fitted to what it takes. `crop`: only the centre square, as classifiers are evaluated.
    Raises UserError where none can be read.
    """
    any_read = False
    for source in sources:
        job.check_interrupt()
        if (shown := job.inputs.read_or_skip(source)) is None:
            continue
        any_read = True
        size_of_file = shown.shape[2], shown.shape[3]
        if crop:
            shown = to_square(shown, min(shown.shape[-2:]))
        yield View(source, shown, resize(shown, *network.fitted(shown.shape[2], shown.shape[3], size)), size_of_file)
    if not any_read:
        raise job.inputs.unreadable(sources)


def scaled(heat: Tensor) -> Tensor:
    """A map in [-1, 1]: over the 99.5th percentile of its absolute values, which a few bright pixels cannot darken."""
    values = heat.abs().flatten()
    top = values.kthvalue(max(1, round(0.995 * len(values)))).values
    return (heat / torch.where(top > 0, top, values.amax().clamp_min(1e-30))).clamp(-1, 1)


def colored(heat: Tensor) -> Tensor:
    """A map (H, W) as a picture (3, H, W): dark to bright where it has no negative values, else blue - white - red around 0."""
    values = scaled(heat)
    return colorize((values + 1) / 2, "RdBu_r") if bool((heat < 0).any()) else colorize(values)


def overlay(picture: Tensor, heat: Tensor) -> Tensor:
    """The map's colours as a tint on the grey picture (1, 3, H, W), the stronger the larger the value; (3, H, W). The picture's
    lights and shadows stay visible under the strongest."""
    values = scaled(heat)
    grey = luma(picture)[0].expand(3, -1, -1)
    signed = bool((heat < 0).any())
    colors = colorize((values + 1) / 2, "RdBu_r") if signed else colorize(0.5 + 0.4 * values, "inferno")
    opacity = 0.75 * values.abs().pow(0.75)
    return grey * 0.85 * (1 - opacity) + colors.to(grey) * (0.3 + 0.7 * grey) * opacity


def framed(picture: Tensor, box: tuple[float, float, float, float]) -> Image.Image:
    """The picture (1, 3, H, W) with a frame just outside of (top, left, height, width), in its pixels."""
    image = to_image(picture)
    top, left, height, width = box
    draw, line = ImageDraw.Draw(image), max(2, min(image.size) // 100)
    for color, grow in (((220, 0, 0), line), ((255, 255, 255), 2 * line)):
        draw.rectangle((left - grow, top - grow, left + width - 1 + grow, top + height - 1 + grow), outline=color, width=line)
    return image


def cut_out(picture: Tensor, mask: Tensor) -> Tensor:
    """The picture (1, 3, H, W) where the mask (H, W) is true, white elsewhere."""
    return torch.where(mask.to(picture.device), picture, torch.ones_like(picture))


def figure(tiles: Sequence[tuple[Image.Image | Tensor, str]], size: int | tuple[int, int] | None = None) -> Image.Image:
    """Tiles of one shape side by side with captions, each brought to a longer side of `size` pixels (`TILE` by default), or to
    (width, height)."""
    images = [fitted_tile(tile, size or TILE) for tile, _ in tiles]
    return sheets.sheet(images, [text for _, text in tiles], columns=len(tiles)).image


def fitted_tile(tile: Image.Image | Tensor, size: int | tuple[int, int]) -> Image.Image:
    """The picture with a longer side of `size` pixels, or of (width, height)."""
    image = tile if isinstance(tile, Image.Image) else to_image(tile)
    if isinstance(size, int):
        factor = size / max(image.size)
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    small = max(size) > 3 * max(image.size)
    return image if image.size == size else image.resize(size, Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS)


def caption(target: Target, value: float) -> str:
    """`tabby 87%` for a class, `channel:conv4_1:7 1.3` for another target."""
    return f"{target.label.partition(',')[0]} {value:.0%}" if target.index is not None else f"{target.label} {value:.3g}"


def faithfulness(network: Network, image: Tensor, heat: Tensor, target: Target) -> dict[str, Any]:
    """Deletion and insertion AUC of a map (h, w) of a picture (1, 3, h, w) and of its `rivals`; how many of them it beats in
    each: lower deletion, higher insertion."""
    scores: dict[str, Any] = {}
    others = rivals(heat)
    for name, values in {"": heat, **others}.items():
        curves = deletion_insertion(network, image[0], values, target.judged)
        prefix = f"{name}_" if name else ""
        scores |= {f"{prefix}deletion_auc": curves.deletion_auc, f"{prefix}insertion_auc": curves.insertion_auc}
    return scores | {
        "beats_in_deletion": sum(scores["deletion_auc"] < scores[f"{name}_deletion_auc"] for name in others),
        "beats_in_insertion": sum(scores["insertion_auc"] > scores[f"{name}_insertion_auc"] for name in others),
        "rivals": len(others),
    }


def beside_rivals(scores: Mapping[str, Any]) -> list[str]:
    """A line for each of the two, with the best of its rivals: `insertion 0.61 (rivals 0.40)`."""
    lines = []
    for name, best in (("insertion", max), ("deletion", min)):
        others = [value for key, value in scores.items() if key.endswith(f"_{name}_auc")]
        lines.append(f"{name} {scores[f'{name}_auc']:.2f} (rivals {best(others):.2f})")
    return lines


def record(job: Job, rows: Sequence[dict[str, Any]]) -> None:
    """The rows of all pictures into the sidecar, and what they say together."""
    if len(rows) == 1:
        job.scores.update(rows[0])
        return
    job.scores["pictures"] = rows
    job.scores["number_of_pictures"] = len(rows)
    for key in (key for key in rows[0] if key.endswith("_auc")):
        job.scores[f"mean_{key}"] = float(np.mean([row[key] for row in rows]))
    for key in ("beats_in_deletion", "beats_in_insertion"):
        if key in rows[0]:  # pictures whose map beats all of its rivals
            job.scores[f"{key}_all_rivals"] = sum(row[key] == row["rivals"] for row in rows)
