"""Growth and quilting copy what fits; tileable ones wrap."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.texture.resynthesis import grow, quilt
from cnnvis_cli.engine.texture.scores import copy_rate, seam_ratio


def stripes(height: int = 24, width: int = 32, period: int = 8) -> Tensor:
    """Diagonal stripes: a texture whose every pixel follows from its neighbourhood."""
    rows, cols = torch.arange(height)[:, None], torch.arange(width)[None, :]
    wave = 0.5 + 0.4 * torch.sin((rows + cols) * 2 * torch.pi / period)
    return torch.stack([wave, 1 - wave, 0.5 * wave])[None]


def is_stripes(picture: Tensor, period: int = 8) -> bool:
    """Whether every pixel is that a row above and a column to the right, and a period further on."""
    there = picture[..., 1:, :-1] - picture[..., :-1, 1:]
    further = picture[..., period:] - picture[..., :-period]
    return bool(there.abs().max() < 0.05 and further.abs().max() < 0.05)


def test_growth_goes_on_with_what_is_certain() -> None:
    assert is_stripes(grow(stripes(), 24, 40, window=9))


def test_quilting_goes_on_with_what_is_certain() -> None:
    assert is_stripes(quilt(stripes(), 40, 48, block=12))


@pytest.mark.parametrize("make", [grow, quilt])
def test_tileable_patches_wrap(make: type) -> None:
    size = {"window": 9} if make is grow else {"block": 12}
    found = make(stripes(), 24, 32, tileable=True, **size)
    assert is_stripes(torch.cat([torch.cat([found, found], 3)] * 2, 2))
    assert seam_ratio(found) <= 1.05


@pytest.mark.parametrize("make", [grow, quilt])
def test_same_seed_same_texture_and_only_colours_of_the_exemplar(make: type, images: Tensor) -> None:
    exemplar = images[:1, :, :28, :28]
    first, second, other = (make(exemplar, 14, 33, seed=seed) for seed in (3, 3, 4))
    assert first.shape == (1, 3, 14, 33)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    known = {tuple(color) for color in exemplar[0].flatten(1).T.tolist()}
    assert all(tuple(color) in known for color in first[0].flatten(1).T.tolist())


def test_quilts_of_an_exemplar_are_copied_and_noise_is_not(images: Tensor) -> None:
    exemplar = images[:1, :, :40, :40]
    assert copy_rate(quilt(exemplar, 60, 60, block=20), exemplar, side=5) > 0.5
    assert copy_rate(images[1:, :, :40, :40], exemplar, side=5) == 0


@pytest.mark.parametrize(("make", "word"), [(grow, "window"), (quilt, "blocks")])
def test_an_exemplar_smaller_than_its_squares_is_refused(make: type, word: str) -> None:
    with pytest.raises(UserError, match=word):
        make(stripes(8, 8), 32, 32)


def test_progress_ends_with_every_pixel() -> None:
    grown: list[int] = []
    quilted: list[int] = []
    grow(stripes(), 12, 14, window=5, progress=grown.append)
    quilt(stripes(), 30, 30, block=12, progress=quilted.append)
    assert grown[-1] == 12 * 14 - 9  # the seed is there from the start
    assert quilted[-1] == 900
