"""Putting pictures together: sheets of tiles with captions, rows, colour maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cnnvis_cli.outputs import to_image

_PAPER, _INK = (255, 255, 255), (30, 30, 30)


@dataclass(frozen=True)
class Sheet:
    """A page of tiles. `boxes`: (left, top, right, bottom) of each tile on it, in pixels."""

    image: Image.Image
    boxes: tuple[tuple[int, int, int, int], ...]

    def tile(self, page: Tensor, number: int) -> Tensor:
        """The tile cut out of the page as it was saved, (1, 3, H, W)."""
        left, top, right, bottom = self.boxes[number]
        return page[..., top:bottom, left:right]


def sheet(
    tiles: Sequence[Image.Image | Tensor], captions: Sequence[str] = (), *, columns: int | None = None, gap: int = 4
) -> Sheet:
    """Tiles (PIL pictures or tensors (3, H, W) in [0, 1]) in rows, each with its caption below; as square as possible.

    Captions are shortened to the tile's width. Tiles of different sizes are centred in cells of the largest.
    """
    images = [tile if isinstance(tile, Image.Image) else to_image(tile) for tile in tiles]
    width, height = max(i.width for i in images), max(i.height for i in images)
    columns = min(len(images), columns or math.ceil(math.sqrt(len(images))))
    rows = math.ceil(len(images) / columns)
    font = ImageFont.load_default(size=max(10, min(16, width // 9)))
    line = math.ceil(font.getbbox("Ag")[3]) + 4 if any(captions) else 0
    page = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + line + gap) + gap), _PAPER)
    draw = ImageDraw.Draw(page)
    boxes = []
    for number, image in enumerate(images):
        x, y = gap + number % columns * (width + gap), gap + number // columns * (height + line + gap)
        left, top = x + (width - image.width) // 2, y + (height - image.height) // 2
        page.paste(image.convert("RGB"), (left, top))
        boxes.append((left, top, left + image.width, top + image.height))
        if line and number < len(captions):
            draw.text((x + width / 2, y + height + 1), fit_text(captions[number], width, font), _INK, font, anchor="ma")
    return Sheet(page, tuple(boxes))


def fit_text(text: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """The text, or as much of its end and beginning as fits in `width` pixels."""
    if font.getlength(text) <= width:
        return text
    keep = len(text)
    while keep > 2 and font.getlength(shorter := f"{text[: keep // 2]}…{text[len(text) - keep // 2 :]}") > width:
        keep -= 1
    return shorter if keep > 2 else text[:1]


def colorize(heat: Tensor | np.ndarray, colors: str = "inferno") -> Image.Image:
    """A map (H, W) in [0, 1] as RGB through one of matplotlib's colour maps."""
    from matplotlib import colormaps

    values = np.asarray(heat.detach().cpu() if isinstance(heat, Tensor) else heat, dtype=np.float64)
    return Image.fromarray((colormaps[colors](values.clip(0, 1))[..., :3] * 255).round().astype(np.uint8))


def class_history(history: np.ndarray, names: Sequence[str]) -> Image.Image:
    """Probabilities (generations, classes) as a heat map, class by generation, with their median, least and greatest below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tall = min(14.0, max(2.0, 0.16 * len(names)))
    figure = Figure(figsize=(8, tall + 3.2), dpi=100, layout="constrained")
    heat, curve = figure.subplots(2, 1, sharex=True, height_ratios=(tall, 2.0))
    drawn = heat.imshow(history.T, aspect="auto", vmin=0, vmax=1, cmap="inferno", interpolation="nearest")
    shown = range(0, len(names), max(1, math.ceil(len(names) / (tall * 7))))
    heat.set_yticks(list(shown), [names[k][:24] for k in shown], fontsize=7)
    figure.colorbar(drawn, ax=heat, label="probability", pad=0.01)
    generations = np.arange(len(history))
    curve.fill_between(generations, history.min(1), history.max(1), alpha=0.2, linewidth=0)
    curve.plot(generations, np.median(history, 1), label="median (shaded: least to greatest)")
    curve.set(xlabel="generation", ylabel="probability", ylim=(0, 1.02))
    curve.legend(loc="lower right", fontsize=8, frameon=False)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
