"""How good a texture is, without the layers it was made with. Pictures are (1, 3, H, W), sRGB in [0, 1]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.engine.pixels import luma


def seam_ratio(picture: Tensor) -> float:
    """Mean step across the wrapped borders over the mean step between neighbours inside; 1 has no seam."""
    ratios = []
    for axis in (2, 3):
        inside = picture.diff(dim=axis).abs().mean()
        across = (picture.select(axis, 0) - picture.select(axis, -1)).abs().mean()
        ratios.append((across / inside.clamp_min(1e-6)).item())
    return max(ratios)


def line_ratio(picture: Tensor) -> float:
    """How the sharpest row or column of a picture that wraps stands out: its mean second difference over the median one.

    Finds a seam wherever it lies; 1 to 1.5 without one, more where the texture itself has lines.
    """
    grey = luma(picture)
    ratios = []
    for axis in (2, 3):
        bend = (2 * grey - grey.roll(1, axis) - grey.roll(-1, axis)).abs().mean(dim=[1, 5 - axis])[0]
        ratios.append((bend.amax() / bend.median().clamp_min(1e-6)).item())
    return max(ratios)


def cut_where_least_seen(picture: Tensor) -> Tensor:
    """A picture that wraps, rolled so that its borders lie where neighbouring rows and columns differ least."""
    for axis in (2, 3):
        steps = (picture - picture.roll(1, axis)).abs().mean(dim=[1, 5 - axis])[0]
        picture = picture.roll(-int(steps.argmin()), axis)
    return picture


def copy_rate(picture: Tensor, exemplar: Tensor, *, side: int = 9, tolerance: float = 0.15, count: int = 400) -> float:
    """Share of squares of the picture (at most `count`, on a grid) that stand almost verbatim in the exemplar.

    Almost: the root mean square of the difference is below `tolerance` standard deviations of the exemplar.
    """
    steps = max(1, round((picture.shape[2] * picture.shape[3] / count) ** 0.5))
    squares = F.unfold(picture, side, stride=steps)[0].T
    known = F.unfold(exemplar, side)[0].T
    errors = torch.cdist(squares, known).amin(1) / squares.shape[1] ** 0.5
    return (errors < tolerance * exemplar.std()).float().mean().item()


def radial_spectrum(picture: Tensor, bins: int = 24) -> Tensor:
    """(bins,) log10 of the mean power of the luma in rings of equal width up to half a cycle per pixel, mean taken out.

    A Hann window keeps the borders from counting as edges.
    """
    grey = luma(picture)[0, 0].double()
    height, width = grey.shape
    window = torch.hann_window(height, periodic=False).double()[:, None] * torch.hann_window(width, periodic=False).double()
    window = window.to(grey.device)
    power = torch.fft.fft2((grey - grey.mean()) * window).abs().square() / window.square().sum()
    fy, fx = torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None, :]
    ring = ((fy.square() + fx.square()).sqrt() * 2 * bins).long().flatten().to(grey.device)
    sums = torch.zeros(bins, dtype=power.dtype, device=grey.device)
    inside = ring < bins
    sums.index_add_(0, ring[inside], power.flatten()[inside])
    counts = torch.bincount(ring[inside], minlength=bins).clamp_min(1)
    return (sums / counts).clamp_min(1e-12).log10()


def spectrum_distance(picture: Tensor, exemplar: Tensor) -> float:
    """Root mean square difference of the radial spectra, in powers of ten."""
    return (radial_spectrum(picture) - radial_spectrum(exemplar)).square().mean().sqrt().item()
