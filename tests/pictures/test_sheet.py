"""Sheets: where tiles land and where captions go."""

from __future__ import annotations

import numpy as np
import torch
from PIL import ImageFont

from cnnvis_cli.pictures.sheet import broken, fit_text, sheet
from cnnvis_cli.pictures.write import to_image


def test_tiles_are_found_again_on_the_page_under_captions_of_several_lines() -> None:
    tiles = list(torch.rand(5, 3, 40, 60, generator=torch.Generator().manual_seed(0)))
    one, two = (sheet(tiles, [caption] * 5, columns=3) for caption in ("first", "first\nsecond"))
    assert two.image.width == one.image.width
    assert two.image.height > one.image.height
    page = torch.from_numpy(np.array(two.image)).permute(2, 0, 1)[None]
    for number, tile in enumerate(tiles):
        assert np.array_equal(two.tile(page, number)[0].permute(1, 2, 0).numpy(), np.asarray(to_image(tile)))
    below = np.array(two.image)[two.boxes[0][3] :, : two.boxes[0][2]]
    inked = (below[: two.boxes[3][1] - two.boxes[0][3]] < 128).any((1, 2))
    assert np.diff(inked.astype(int)).clip(0).sum() >= 2, "two lines of text with paper between"


def test_long_captions_lose_their_middle() -> None:
    font = ImageFont.load_default(size=12)
    short = fit_text("a caption that does not fit", 80, font)
    assert font.getlength(short) <= 80
    assert short.startswith("a c")
    assert short.endswith("it")
    assert fit_text("fits", 80, font) == "fits"


def test_captions_break_between_words_before_they_are_cut() -> None:
    font = ImageFont.load_default(size=14)
    width = int(font.getlength("seen as tobacco"))
    assert broken("seen as tobacco shop\n(asked for: 8%)", width, font) == ["seen as tobacco", "shop", "(asked for: 8%)"]
    assert broken("", width, font) == []
    (cut,) = broken("n" * 80, width, font)
    assert "…" in cut
    assert font.getlength(cut) <= width
