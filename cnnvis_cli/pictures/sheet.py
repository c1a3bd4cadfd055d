"""Putting pictures together: sheets of tiles with captions, frames."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cnnvis_cli.pictures.write import to_image

_PAPER, _INK, _SOFT_INK = (255, 255, 255), (30, 30, 30), (110, 110, 110)


@dataclass(frozen=True)
class Sheet:
    """A page of tiles. `boxes`: (left, top, right, bottom) of each tile on it, in pixels; `zoom`: the side of the square that
    each pixel of a tile became."""

    image: Image.Image
    boxes: tuple[tuple[int, int, int, int], ...]
    zoom: int = field(default=1, kw_only=True)

    def tile(self, page: Tensor, number: int) -> Tensor:
        """The tile cut out of the page as it was saved, (1, 3, H, W), at its own size."""
        left, top, right, bottom = self.boxes[number]
        return page[..., top : bottom : self.zoom, left : right : self.zoom]


def sheet(
    tiles: Sequence[Image.Image | Tensor],
    captions: Sequence[str] = (),
    *,
    columns: int | None = None,
    gap: int = 4,
    least: int = 1,
) -> Sheet:
    """Tiles (PIL pictures or tensors (3, H, W) in [0, 1]) in rows, each with its caption below; as square as possible.

    Each line of a caption breaks once where it is too long for the tile; what is longer still is shortened. Tiles of different
    sizes are centred in cells of the widest, and of the highest of their row. Where these are narrower than `least` pixels all
    are enlarged by a whole factor.
    """
    images = [tile if isinstance(tile, Image.Image) else to_image(tile) for tile in tiles]
    zoom = -(-least // max(i.width for i in images))
    images = images if zoom == 1 else [enlarged(image, zoom) for image in images]
    width = max(i.width for i in images)
    columns = min(len(images), columns or math.ceil(math.sqrt(len(images))))
    font = ImageFont.load_default(size=max(10, min(16, width // 9)))
    under = [broken(caption, width, font) for caption in captions]
    under += [[] for _ in images[len(under) :]]
    line = math.ceil(font.getbbox("Ag")[3]) + 4
    starts = range(0, len(images), columns)
    heights = [max(image.height for image in images[n : n + columns]) for n in starts]
    footers = [line * max(len(words) for words in under[n : n + columns]) for n in starts]
    tops = list(itertools.accumulate((h + f + gap for h, f in zip(heights, footers, strict=True)), initial=gap))
    page = Image.new("RGB", (columns * (width + gap) + gap, tops[-1]), _PAPER)
    draw = ImageDraw.Draw(page)
    boxes = []
    for number, (image, words) in enumerate(zip(images, under, strict=True)):
        row, x = number // columns, gap + number % columns * (width + gap)
        left, top = x + (width - image.width) // 2, tops[row] + (heights[row] - image.height) // 2
        page.paste(image.convert("RGB"), (left, top))
        boxes.append((left, top, left + image.width, top + image.height))
        for place, text in enumerate(words):
            draw.text((x + width / 2, tops[row] + heights[row] + 1 + place * line), text, _INK, font, anchor="ma")
    return Sheet(page, tuple(boxes), zoom=zoom)


def titled(image: Image.Image, text: str, least: int = 240) -> Image.Image:
    """The figure with a small line of text under it, which breaks where it is long; what stands on it stays where it was.

    A figure narrower than `least` pixels gets paper to its right.
    """
    image = image.convert("RGB")
    width = max(least, image.width)
    font = ImageFont.load_default(size=max(10, min(14, width // 50)))
    lines, line = [""], math.ceil(font.getbbox("Ag")[3]) + 3
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width - 8 or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    page = Image.new("RGB", (width, image.height + len(lines) * line + 2), _PAPER)
    page.paste(image, (0, 0))
    draw = ImageDraw.Draw(page)
    for number, words in enumerate(lines):
        draw.text((4, image.height + number * line), fit_text(words, width - 8, font), _SOFT_INK, font)
    return page


def broken(caption: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> list[str]:
    """The lines of a caption, each broken at most once, between words."""
    lines = []
    for text in caption.split("\n") if caption else ():
        first, rest = text, ""
        while font.getlength(first) > width and " " in first:
            first, _, last = first.rpartition(" ")
            rest = f"{last} {rest}".strip()
        lines += [fit_text(part, width, font) for part in (first, rest) if part]
    return lines


def fit_text(text: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """The text, or as much of its end and beginning as fits in `width` pixels."""
    if font.getlength(text) <= width:
        return text
    keep = len(text)
    while keep > 2 and font.getlength(shorter := f"{text[: keep // 2]}…{text[len(text) - keep // 2 :]}") > width:
        keep -= 1
    return shorter if keep > 2 else text[:1]


def framed(image: Image.Image, color: tuple[int, int, int], width: int = 3) -> Image.Image:
    """The picture with a frame drawn over its border."""
    image = image.convert("RGB")
    ImageDraw.Draw(image).rectangle((0, 0, image.width - 1, image.height - 1), outline=color, width=width)
    return image


def enlarged(image: Image.Image, factor: int) -> Image.Image:
    """Every pixel as a square of `factor` pixels."""
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
