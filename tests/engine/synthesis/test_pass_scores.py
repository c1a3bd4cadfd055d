"""Scores of painted pictures: each rises with the fault it is named after, and with no other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.synthesis.pass_scores import blob, border, checkerboard, flicker, outline
from cnnvis_cli.pictures.find import find_pictures
from cnnvis_cli.pictures.read import read, resize, sample, to_square


def photograph() -> Tensor:
    return resize(read(sample("coffee")), 96, 144)


def test_a_lattice_is_seen_at_periods_of_two_and_four() -> None:
    plain = photograph()
    for period in (2, 4):
        dots = torch.zeros(96, 144)
        dots[::period, ::period] = 0.1
        assert checkerboard((plain + dots).clamp(0, 1)) > 3 * checkerboard(plain)
    noise = 0.05 * torch.randn(plain.shape, generator=torch.Generator().manual_seed(0))
    assert checkerboard((plain + noise).clamp(0, 1)) < 1.5
    assert 0.5 < checkerboard(plain) < 1.5


def test_a_frame_is_seen(minivgg: Network) -> None:
    plain = photograph()
    framed = torch.zeros_like(plain)
    framed[..., 8:-8, 8:-8] = plain[..., 8:-8, 8:-8]
    layers = ["relu1_1", "relu2_1"]
    assert border(minivgg, framed, layers) > 2 * border(minivgg, plain, layers)


def test_a_blob_is_seen() -> None:
    texture = 0.4 + 0.1 * torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    spoiled = texture.clone()
    spoiled[..., 40:60, 40:60] = 1
    assert blob(spoiled) > 3 * blob(texture)


def test_what_follows_the_picture_does_not_flicker() -> None:
    plain = photograph()
    steady = flicker(lambda picture: picture * 0.5, plain)
    assert steady["flicker_shift"] < 1e-6

    def at_fixed_places(picture: Tensor) -> Tensor:
        grid = torch.zeros_like(picture)
        grid[..., ::4, ::4] = 0.5
        return picture * 0.5 + grid

    assert flicker(at_fixed_places, plain)["flicker_shift"] > 0.01


def test_an_outline_is_found_again_in_other_colours_but_not_under_a_lattice(minivgg: Network) -> None:
    """Grey, negative colours and strokes leave a picture nearest to itself; a lattice of dots all over does not."""
    shown = [to_square(read(source), 96) for source in find_pictures("sample:caltech")[::8]]
    outlines = torch.cat([outline(minivgg, picture, "relu4_1") for picture in shown])

    def found(change: Callable[[Tensor], Tensor]) -> float:
        made = torch.cat([outline(minivgg, change(picture), "relu4_1") for picture in shown])
        return ((made @ outlines.T).argmax(1) == torch.arange(len(shown))).float().mean().item()

    strokes = 0.15 * torch.randn(1, 1, 96, 24, generator=torch.Generator().manual_seed(0)).repeat_interleave(4, 3)
    dots = torch.zeros(96, 96)
    dots[::4, ::4] = dots[2::4, 2::4] = 1
    assert found(lambda picture: picture.mean(1, keepdim=True).expand(-1, 3, -1, -1)) == 1
    assert found(lambda picture: picture[:, [2, 0, 1]] * 0.6) > 0.8
    assert found(lambda picture: (picture + strokes).clamp(0, 1)) > 0.8
    assert found(lambda picture: 0.06 * picture + 0.94 * dots) < 0.5
