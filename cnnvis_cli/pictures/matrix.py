"""Many small grey pictures as one matrix with numbered rows and columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cnnvis_cli.pictures.write import to_image

# Paper, of the grey that zero has; ink; a row that is marked.
_PAPER, _INK, _MARK = 128, (245, 245, 245), (255, 70, 60)


def tile_matrix(
    tiles: Tensor, rows: Sequence[str], columns: Sequence[str], zoom: int, *, gap: int = 2, marked: Collection[int] = ()
) -> Image.Image:
    """Tiles (R, C, h, w) in [0, 1], 0.5 for zero, on grey paper: `rows` names stand left, `columns` above (as many of them as
    there is room for). `zoom`: pixels per value. Rows whose numbers are `marked` have a red name and frame."""
    count, across, height, width = tiles.shape
    font = ImageFont.load_default(size=13)
    tall, wide = height * zoom + gap, width * zoom + gap
    left, top = max(round(font.getlength(name)) for name in rows) + 10, 22
    page = Image.new("RGB", (left + across * wide, top + count * tall), (_PAPER,) * 3)
    padded = torch.full((count, across, tall, wide), _PAPER / 255)
    padded[:, :, : height * zoom, : width * zoom] = tiles.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    page.paste(to_image(padded.permute(0, 2, 1, 3).reshape(1, count * tall, across * wide).expand(3, -1, -1)), (left, top))
    pen = ImageDraw.Draw(page)
    every = max(1, -(-round(max(font.getlength(name) for name in columns) + 6) // wide))
    for number in range(0, across, every):
        pen.text((left + number * wide + (wide - gap) / 2, top - 4), columns[number], _INK, font, anchor="ms")
    skip = max(1, -(-15 // tall))
    for number in range(count):
        mark = number in marked
        if mark or number % skip == 0:
            middle = top + number * tall + (tall - gap) / 2
            pen.text((left - 6, middle), rows[number], _MARK if mark else _INK, font, anchor="rm")
        if mark:
            edges = (left, top + number * tall, left + across * wide - gap - 1, top + (number + 1) * tall - gap - 1)
            pen.rectangle(edges, outline=_MARK)
    return page
