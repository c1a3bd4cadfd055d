"""What natural pictures have in common: their colours and how much there is of each frequency."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Spectrum:
    """`mean` (3,) colour; `colors` (3, 3): columns are the principal directions of colour; `magnitude` (3, H, W // 2 + 1): of
    the orthonormal Fourier transform along each, averaged over pictures and over the directions of waves."""

    mean: Tensor
    colors: Tensor
    magnitude: Tensor


def natural_spectrum(pictures: Tensor) -> Spectrum:
    """Of pictures (N, 3, H, W), sRGB in [0, 1], at least two. Fel et al. 2023 average the spectra as they are; here each
    picture is faded out towards its border, which otherwise puts a cross of lines into every spectrum."""
    height, width = pictures.shape[-2:]
    mean = pictures.mean((0, 2, 3))
    centred = pictures - pictures.mean((2, 3), keepdim=True)
    flat = centred.permute(1, 0, 2, 3).flatten(1)
    colors = torch.linalg.eigh((flat @ flat.T / flat.shape[1]).double())[1].flip(1).to(pictures)
    window = torch.hann_window(height)[:, None] * torch.hann_window(width)[None, :]
    window = (window / window.square().mean().sqrt()).to(pictures)
    axes = torch.einsum("dc,ndhw->nchw", colors, centred * window)
    magnitude = torch.fft.rfft2(axes, norm="ortho").abs().square().mean(0).sqrt()
    return Spectrum(mean, colors, _radial(magnitude, height, width))


def _radial(magnitude: Tensor, height: int, width: int) -> Tensor:
    """Each value replaced by the root mean square over all waves of about the same length."""
    down, across = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None, :]
    bins = ((down.square() + across.square()).sqrt() * max(height, width)).round().long().flatten().to(magnitude.device)
    sums = torch.zeros(3, int(bins.max()) + 1, device=magnitude.device).index_add_(1, bins, magnitude.square().flatten(1))
    counts = bins.bincount().clamp_min(1)
    result = (sums / counts).sqrt()[:, bins].view(magnitude.shape)
    result[:, 0, 0] = 0  # the mean colour is kept apart
    return result
