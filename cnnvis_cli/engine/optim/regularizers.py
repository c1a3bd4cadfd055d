"""What is done to pixels or gradients between steps: blur, clipping, centre bias."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.engine.optim.loop import AfterStep

GREY = 0.5


def gaussian_blur(pictures: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian of `sigma` pixels; the border is mirrored. Pictures (B, C, H, W)."""
    radius = max(1, math.ceil(3 * sigma))
    x = torch.arange(-radius, radius + 1, dtype=pictures.dtype, device=pictures.device)
    kernel = torch.exp(-0.5 * (x / sigma).square())
    kernel = kernel / kernel.sum()
    channels = pictures.shape[1]
    radius_y, radius_x = (min(radius, side - 1) for side in pictures.shape[-2:])
    padded = F.pad(pictures, (radius_x, radius_x, radius_y, radius_y), mode="reflect")
    padded = F.pad(padded, (radius - radius_x,) * 2 + (radius - radius_y,) * 2, mode="replicate")
    rows = F.conv2d(padded, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(rows, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


def blur_every(steps: int, sigma: float) -> AfterStep:
    """Blur after every `steps`-th step (Yosinski et al. 2015)."""

    def change(step: int, pictures: Tensor, gradient: Tensor) -> Tensor:
        return gaussian_blur(pictures, sigma) if (step + 1) % steps == 0 else pictures

    return change


def clip_small(share: float, *, by_contribution: bool) -> AfterStep:
    """Set to grey the share of pixels with the smallest norm, or with the smallest contribution |sum over colours of x * g|
    (Yosinski et al. 2015; pixels counted from grey)."""

    def change(step: int, pictures: Tensor, gradient: Tensor) -> Tensor:
        centred = pictures - GREY
        size = (centred * gradient).sum(1).abs() if by_contribution else centred.norm(dim=1)
        threshold = size.flatten(1).quantile(share, dim=1).view(-1, 1, 1)
        return torch.where((size < threshold)[:, None], torch.full_like(pictures, GREY), pictures)

    return change


def center_bias(height: int, width: int, spread: float) -> Callable[[Tensor], Tensor]:
    """Weight the gradient by a Gaussian around the middle; `spread` is its standard deviation in half sides."""
    y = torch.linspace(-1, 1, height)[:, None]
    x = torch.linspace(-1, 1, width)[None, :]
    weights = torch.exp(-0.5 * (y.square() + x.square()) / spread**2)
    return lambda gradient: gradient * weights.to(gradient)
