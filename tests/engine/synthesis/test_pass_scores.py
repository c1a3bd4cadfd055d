"""Scores of painted pictures: each rises with the fault it is named after, and with no other."""

from __future__ import annotations

import torch
from torch import Tensor

from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.synthesis.pass_scores import blob, border, checkerboard, flicker
from cnnvis_cli.pictures.read import read, resize, sample


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
