"""The patches of many pictures that excite units most: one search through the pictures, then tiles of what the units saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from cnnvis_cli.engine.attribution.gradients import gradient, guided_backprop, signed_picture, strongest
from cnnvis_cli.engine.locality.receptive_field import ReceptiveField, receptive_fields
from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.layers import OUTPUT
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.objectives import neuron
from cnnvis_cli.engine.pixels import gaussian_blur
from cnnvis_cli.engine.units.top_patches import TopPatches
from cnnvis_cli.errors import Interrupted, UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.read import PictureFile, resize, to_square
from cnnvis_cli.pictures.write import to_image

# Side of a patch on a sheet, in pixels, at least. What lies beyond the picture's border is of this grey.
TILE, OUTSIDE = 96, 0.85
# A unit that sees more than this share of the picture is shown all of it, what it sees lit and the rest of this brightness.
WHOLE, DARK = 0.6, 0.3
FRAME = (255, 140, 0)


@dataclass(frozen=True)
class Patch:
    """One of a unit's best places. `row`, `column` on the layer's map; `box` (top, bottom, left, right): what the unit sees, in
    pixels of what the network was shown; `in_file`: the same in pixels of the file."""

    unit: int
    rank: int
    value: float
    source: PictureFile
    row: int
    column: int
    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    in_file: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True)
class Drawn:
    """A patch with the tile of what the unit saw and the tile of its gradient there, by the method `how`."""

    patch: Patch
    tile: Image.Image
    slope: Image.Image
    how: str


class Shown:
    """How pictures are shown to the network: the whole of them, or with `crop` the centre square as classifiers get it."""

    def __init__(self, network: Network, crop: bool) -> None:
        self.network, self.crop = network, crop

    def __call__(self, picture: Tensor) -> Tensor:
        if self.crop:
            return to_square(picture, self.network.size, self.network.preprocessing.resize)
        return resize(picture, *self.network.fitted(picture.shape[2], picture.shape[3]))

    def in_file(self, box: tuple[int, int, int, int], seen: Tensor, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """A box (top, bottom, left, right) of what was shown in pixels of the file of `size` (height, width)."""
        if self.crop:  # the short side became `resize`, the centre was cut
            resize_to = max(self.network.size, self.network.preprocessing.resize)
            factors = (min(size) / resize_to,) * 2
            starts = [(side - seen.shape[2] * factors[0]) / 2 for side in size]
        else:
            factors, starts = (size[0] / seen.shape[2], size[1] / seen.shape[3]), [0.0, 0.0]
        ends = [starts[axis // 2] + edge * factors[axis // 2] for axis, edge in enumerate(box)]
        return tuple(min(size[axis // 2], max(0, round(edge))) for axis, edge in enumerate(ends))  # type: ignore[return-value]


def search(
    job: Job,
    network: Network,
    layer: str,
    units: list[int],
    sources: list[PictureFile],
    *,
    count: int,
    batch: int,
    crop: bool,
    key: str = "search",
) -> list[list[Patch]]:
    """Each unit's best patches, best first, from one pass over the pictures, however many. Ctrl-C keeps the state; the same
    command goes on from there; `key` names it. Raises UserError where no picture can be read."""
    found = TopPatches(len(units), min(count, len(sources)))
    number = {source: i for i, source in enumerate(sources)}
    done = 0
    if (state := job.resume.get(key)) is not None and state["pictures"] == len(sources):
        found.values, found.places, done = state["values"], state["places"], state["done"]
        job.inputs.skipped.update(state["skipped"])
        for source in sources[:done]:
            job.inputs.note(source)
    try:
        with job.track(f"patches of {'the classes' if layer == OUTPUT else layer}", len(sources) - done) as bar:
            for part, pictures in job.inputs.stream_fitted(sources[done:], Shown(network, crop), batch=batch, bar=bar):
                with torch.no_grad():
                    maps = activations(network, pictures, [layer])[layer][:, units]
                numbers = torch.tensor([number[source] for source in part])
                found.update(maps, numbers)
                done = int(numbers[-1]) + 1
    except Interrupted:
        state = {"values": found.values, "places": found.places, "done": done, "skipped": job.inputs.skipped}
        job.resume.keep(key, {**state, "pictures": len(sources)})
        job.resume.save()
        raise Interrupted(
            f"interrupted after {done} of {len(sources)} pictures. The same command goes on from there."
        ) from None
    rows = [_row(found, row, unit, sources) for row, unit in enumerate(units)]
    if not any(rows):
        raise job.inputs.unreadable(sources)
    return rows


def _row(found: TopPatches, row: int, unit: int, sources: list[PictureFile]) -> list[Patch]:
    patches = []
    for rank, value in enumerate(found.values[row].tolist()):
        if value == -torch.inf:
            break
        picture, y, x = (int(place) for place in found.places[:, row, rank])
        patches.append(Patch(unit, rank + 1, value, sources[picture], y, x))
    return patches


def draw(
    job: Job, network: Network, layer: str, rows: Sequence[Sequence[Patch]], *, crop: bool, slopes: bool = True
) -> list[list[Drawn]]:
    """The tiles of the patches, in the order of the rows. The pictures are read once more, one at a time."""
    winners: dict[PictureFile, list[Patch]] = {}
    for patch in (patch for row in rows for patch in row):
        winners.setdefault(patch.source, []).append(patch)
    made: dict[tuple[int, int], Drawn] = {}
    with job.track("cutting", len(winners)) as bar:
        for done, (source, theirs) in enumerate(winners.items(), start=1):
            job.check_interrupt()
            picture = job.inputs.read(source)
            shown = Shown(network, crop)
            seen = shown(picture)
            field = _field(network, layer, seen)
            for patch in theirs:
                box = field.box(patch.row, patch.column) if field else (0, seen.shape[2], 0, seen.shape[3])
                in_file = shown.in_file(box, seen, (picture.shape[2], picture.shape[3]))
                known = replace(patch, box=box, in_file=in_file)
                made[patch.unit, patch.rank] = _drawn(network, layer, seen, known, field, slopes)
            bar.advance(done)
    return [[made[patch.unit, patch.rank] for patch in row] for row in rows]


def _field(network: Network, layer: str, seen: Tensor) -> ReceptiveField | None:
    return None if layer == OUTPUT else receptive_fields(network, *seen.shape[-2:])[network.layer(layer).name]


def _slope(network: Network, layer: str, seen: Tensor, unit: int, row: int, column: int) -> tuple[Tensor, str]:
    """(3, h, w): how the pixels of a picture (1, 3, h, w) move one unit."""
    target = neuron(layer, unit, row, column)
    try:
        return guided_backprop(network, seen, target)[0].cpu(), "guided backprop"
    except UserError:  # nothing on the way is a rectifier
        return gradient(network, seen, target)[0].cpu(), "gradient"


def _drawn(network: Network, layer: str, seen: Tensor, patch: Patch, field: ReceptiveField | None, slopes: bool) -> Drawn:
    picture = seen[0].cpu()
    whole = field is None or field.size is None or max(field.size) > WHOLE * min(picture.shape[1:])
    slope, how = torch.zeros_like(picture), ""
    if slopes or whole:
        slope, how = _slope(network, layer, seen, patch.unit, patch.row, patch.column)
    if whole:
        return Drawn(patch, _lit(picture, slope, patch), _enlarged(signed_picture(slope)), how)
    assert field is not None
    # The contrast is that of what the unit sees: all other pixels are zero.
    top, bottom, left, right = patch.box
    colors = torch.full_like(picture, 0.5)
    colors[:, top:bottom, left:right] = signed_picture(slope[:, top:bottom, left:right])
    tile, tinted = (_enlarged(_window(one, patch, field, OUTSIDE)) for one in (picture, colors))
    return Drawn(patch, tile, tinted, how)


def _window(picture: Tensor, patch: Patch, field: ReceptiveField, beyond: float) -> Tensor:
    """What the unit sees of (3, H, W), at its place in a tile of the receptive field's size."""
    assert field.size is not None
    top, bottom, left, right = patch.box
    cut = picture[:, top:bottom, left:right]
    tile = torch.full((3, *field.size), beyond)
    down, across = top - field.rows.first(patch.row), left - field.columns.first(patch.column)
    tile[:, down : down + cut.shape[1], across : across + cut.shape[2]] = cut
    return tile


def _lit(picture: Tensor, slope: Tensor, patch: Patch) -> Image.Image:
    """The whole picture, lit where its pixels move the unit (its effective receptive field: Luo et al. 2016)."""
    heat = strongest(slope[None])
    side = min(heat.shape[1:])
    heat = gaussian_blur(heat, max(1, min(round(side / 8), side - 1)), side / 16)[0]
    light = (heat / heat.flatten().quantile(0.95).clamp_min(1e-12)).clamp(0, 1)
    image = _enlarged(picture * (DARK + (1 - DARK) * light))
    factor = image.width / picture.shape[2]
    if (patch.box[1] - patch.box[0], patch.box[3] - patch.box[2]) != tuple(picture.shape[1:]):
        top, bottom, left, right = (round(edge * factor) for edge in patch.box)
        ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), outline=FRAME)
    return image


def _enlarged(picture: Tensor) -> Image.Image:
    """By a whole factor to about `TILE` pixels, smoothly; larger ones as they are, up to twice that."""
    tall, wide = picture.shape[1:]
    factor = max(1, round(TILE / max(tall, wide))) if max(tall, wide) <= 2 * TILE else 2 * TILE / max(tall, wide)
    return to_image(resize(picture[None], round(tall * factor), round(wide * factor)))


def in_rows(rows: Sequence[Sequence[Drawn]], slopes: bool = True) -> tuple[list[Image.Image], list[str]]:
    """Tiles and captions for a sheet: a row of patches for each unit, under it one of gradients; all rows are equally long."""
    longest = max(map(len, rows))
    tiles: list[Image.Image] = []
    captions: list[str] = []
    for row in rows:
        if not row:
            continue
        blank = [Image.new("RGB", row[0].tile.size, "white")] * (longest - len(row))
        first = f"unit {row[0].patch.unit}: "
        tiles += [*(one.tile for one in row), *blank]
        captions += [f"{first if one.patch.rank == 1 else ''}{short(one.patch.value)}" for one in row] + [""] * len(blank)
        if slopes:
            tiles += [*(one.slope for one in row), *blank]
            captions += [row[0].how] + [""] * (longest - 1)
    return tiles, captions


def short(value: float) -> str:
    """A number for a caption: three digits, no exponent where it is not needed."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def save_table(job: Job, rows: Sequence[Sequence[Drawn]], suffix: str) -> None:
    """Where each patch lies, in pixels of its file."""
    columns = ("unit", "rank", "value", "file", "row", "column", "top", "bottom", "left", "right")
    patches = [drawn.patch for row in rows for drawn in row]
    lines = [[p.unit, p.rank, p.value, str(p.source.path), p.row, p.column, *p.in_file] for p in patches]
    job.results.save_csv(columns, lines, suffix)
