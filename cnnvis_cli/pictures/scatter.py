"""Points in the plane, as a scatter plot and as a map of thumbnails."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cnnvis_cli.pictures.plots import blank, drawn

# Labels up to this many get a legend; of more, the largest are written where their points are.
LEGEND = 20


def scatter(
    panels: Sequence[tuple[str, np.ndarray]], labels: Sequence[str], *, side: float = 6.0, dpi: int = 110
) -> Image.Image:
    """Panels (title, points (N, 2)) side by side, coloured by label; without labels in one colour."""
    figure = blank(side * len(panels), side + 0.3, dpi)
    names = _ordered(labels)
    shades = _shades(len(names))
    for axes, (title, points) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, shade in zip(names, shades, strict=True):
            members = points[[label == name for label in labels]]
            axes.scatter(*members.T, s=min(60, max(4, 6000 / len(points))), color=shade, label=name, linewidths=0, alpha=0.8)
        if len(names) > LEGEND:
            for name in names[:LEGEND]:
                middle = np.median(points[[label == name for label in labels]], axis=0)
                box = {"facecolor": "white", "alpha": 0.6, "linewidth": 0, "pad": 1}
                axes.text(*middle, name, fontsize=7, ha="center", va="center", bbox=box)
        axes.set(title=title, xticks=[], yticks=[], aspect="equal", adjustable="datalim")
    if 1 < len(names) <= LEGEND:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=min(7, len(names)), fontsize=8)
    return drawn(figure)


def _shades(count: int) -> list[tuple[float, ...]]:
    from matplotlib import colormaps

    if count <= 10:
        return [colormaps["tab10"](i) for i in range(count)]
    if count <= LEGEND:
        return [colormaps["tab20"](i) for i in range(count)]
    # The golden angle apart, so that neighbours in the list differ.
    return [colormaps["hsv"](i * 0.618034 % 1) for i in range(count)]


# Side in pixels of the page on which pictures lie at their places, at least, and of it per square root of their number.
PAGE, ROOM = 1536, 1.5


def thumbnails_at(
    points: np.ndarray, pictures: Iterable[Image.Image], side: int, labels: Sequence[str] = (), page: int = PAGE
) -> Image.Image:
    """Square pictures around their points (N, 2), `side` pixels each, framed in their labels' colours; where they overlap later
    ones lie above. The page is `page` pixels or more, so that not too many do."""
    size = max(page, math.ceil(ROOM * side * math.sqrt(len(points))))
    low, high = points.min(0), points.max(0)
    place = (points - (low + high) / 2) / max(float((high - low).max()), 1e-12) * (size - side) + size / 2
    sheet, frames = Image.new("RGB", (size, size), (255, 255, 255)), _frames(labels)
    for number, ((x, y), picture) in enumerate(zip(place, pictures, strict=True)):
        small = _framed(picture.resize((side, side), Image.Resampling.LANCZOS), frames[number] if frames else None)
        sheet.paste(small, (round(x - side / 2), round(size - y - side / 2)))
    if frames and len(set(labels)) <= LEGEND:
        _name(sheet, place, labels)
    return sheet


def _name(page: Image.Image, place: np.ndarray, labels: Sequence[str]) -> None:
    """Each label beside the middle of its points (x, y), which go up."""
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=20)
    for name in _ordered(labels):
        x, y = np.median(place[[label == name for label in labels]], axis=0)
        at = (float(x), float(page.height - y))
        left, top, right, bottom = pen.textbbox(at, name, font, anchor="mm")
        pen.rectangle((left - 4, top - 3, right + 4, bottom + 3), fill="white", outline=(150, 150, 150))
        pen.text(at, name, (30, 30, 30), font, anchor="mm")


def thumbnail_map(points: np.ndarray, pictures: Iterable[Image.Image], side: int, labels: Sequence[str] = ()) -> Image.Image:
    """Square pictures at their points (N, 2) on a grid, each in the free cell nearest to its point; `side` pixels each, framed
    in their labels' colours.

    Memory is that of the page, whatever the number of pictures.
    """
    cells, frames = place_on_grid(points), _frames(labels)
    size = int(cells.max()) + 1
    page = Image.new("RGB", (size * side, size * side), (255, 255, 255))
    for number, ((column, row), picture) in enumerate(zip(cells.tolist(), pictures, strict=True)):
        small = _framed(picture.resize((side, side), Image.Resampling.LANCZOS), frames[number] if frames else None)
        page.paste(small, (column * side, row * side))
    return page


def _frames(labels: Sequence[str]) -> list[tuple[int, int, int]]:
    """The colour of each point's label, as `scatter` gives it; none where there is one label at most."""
    names = _ordered(labels)
    if len(names) < 2:
        return []
    shades = dict(zip(names, _shades(len(names)), strict=True))
    return [tuple(round(255 * part) for part in shades[label][:3]) for label in labels]  # type: ignore[misc]


def _framed(picture: Image.Image, color: tuple[int, int, int] | None) -> Image.Image:
    if color is not None:
        edge = (0, 0, picture.width - 1, picture.height - 1)
        ImageDraw.Draw(picture).rectangle(edge, outline=color, width=max(1, picture.width // 24))
    return picture


def _ordered(labels: Sequence[str]) -> list[str]:
    """Labels, the most frequent first."""
    return sorted(set(labels), key=lambda name: (-labels.count(name), name))


def place_on_grid(points: np.ndarray, room: float = 1.7) -> np.ndarray:
    """(N, 2) column and row of each point, all different, on a square grid of about `room` cells per point.

    Points choose in the order of their distance from the middle, so that the dense parts spread outwards.
    """
    count = len(points)
    size = max(1, math.ceil(math.sqrt(room * count)))
    low, high = points.min(0), points.max(0)
    place = (points - (low + high) / 2) / max(float((high - low).max()), 1e-12) * (size - 1) + (size - 1) / 2
    place[:, 1] = size - 1 - place[:, 1]  # rows go down, the second coordinate up
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), axis=-1).reshape(-1, 2)
    taken = np.zeros(len(grid), dtype=bool)
    cells = np.empty((count, 2), dtype=np.int64)
    for number in np.argsort(((place - np.median(place, axis=0)) ** 2).sum(1), kind="stable"):
        distance = ((grid - place[number]) ** 2).sum(1).astype(float)
        distance[taken] = np.inf
        nearest = int(distance.argmin())
        taken[nearest] = True
        cells[number] = grid[nearest]
    return cells
