"""Scores of textures on pictures whose scores are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cnnvis_cli.engine.texture.scores import copy_rate, cut_where_least_seen, line_ratio, seam_ratio, spectrum_distance


def test_a_periodic_picture_has_no_seam_and_a_ramp_has_one() -> None:
    rows, cols = torch.arange(32)[:, None], torch.arange(48)[None, :]
    waves = 0.5 + 0.4 * torch.sin(2 * torch.pi * (rows / 16 + cols / 12))
    assert seam_ratio(waves.expand(1, 3, 32, 48)) <= 1.05
    ramp = (cols / 47).expand(1, 3, 32, 48)
    assert seam_ratio(ramp) == pytest.approx(47, rel=0.01)


def test_a_torus_is_cut_where_it_is_least_seen(images: Tensor) -> None:
    smooth = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(images, [3] * 4, mode="circular"), 7, 1)[:1]
    rolled = cut_where_least_seen(smooth)
    assert seam_ratio(rolled) < 1
    assert torch.equal(rolled.flatten().sort().values, smooth.flatten().sort().values)  # nothing but a roll


def test_a_seam_inside_is_found() -> None:
    noise = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    assert line_ratio(noise) < 1.4
    dotted = noise.clone()
    dotted[..., ::2, 31] = 1
    dotted[..., 1::2, 32] = 0
    assert line_ratio(dotted) > 1.2 * line_ratio(noise)
    assert seam_ratio(dotted) == pytest.approx(seam_ratio(noise), rel=0.05)


def test_a_copy_is_a_copy_and_a_mirror_image_of_noise_is_none(images: Tensor) -> None:
    one = images[:1]
    assert copy_rate(one[..., 8:40, 8:40], one) == 1.0
    assert copy_rate(one.flip(3), one) < 0.1


def test_the_spectrum_knows_rough_from_smooth(images: Tensor) -> None:
    noise, other = images[:1], images[1:]
    smooth = torch.nn.functional.avg_pool2d(noise, 5, 1, 2)
    assert spectrum_distance(noise, noise) == 0
    assert spectrum_distance(other, noise) < 0.3 < spectrum_distance(smooth, noise)


def test_the_spectrum_does_not_depend_on_the_size() -> None:
    generator = torch.Generator().manual_seed(0)
    small, large = (torch.rand(1, 3, side, side, generator=generator) for side in (64, 160))
    assert spectrum_distance(large, small) < 0.3
