"""Pictures as numbers: luma, 8 bits, Gaussian blur. Pictures are (B, 3, H, W), sRGB in [0, 1]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# ITU-R BT.601, what Pillow's convert("L") uses.
LUMA = (0.299, 0.587, 0.114)
LEVELS = 255


def luma(pictures: Tensor) -> Tensor:
    """(B, 1, H, W) in [0, 1]."""
    weights = torch.tensor(LUMA, dtype=pictures.dtype, device=pictures.device).view(1, 3, 1, 1)
    return (pictures * weights).sum(1, keepdim=True)


def to_bytes(pictures: Tensor) -> Tensor:
    """uint8 of the same shape, rounded to nearest; values beyond [0, 1] are clipped."""
    return (pictures.detach().clamp(0, 1) * LEVELS).round().byte()


def eight_bit(pictures: Tensor) -> Tensor:
    """The nearest pictures that a file can hold."""
    return (pictures * LEVELS).round() / LEVELS


def gaussian_blur(maps: Tensor, radius: int, sigma: float) -> Tensor:
    """Maps (..., H, W) under a Gaussian of `sigma` pixels, cut off at `radius`; the border is mirrored, so `radius` is below
    both sides. The numbers are those of torchvision's function of this name, whose import costs as much as torch's."""
    places = torch.linspace(-radius, radius, 2 * radius + 1, dtype=maps.dtype, device=maps.device)
    kernel = torch.exp(-0.5 * (places / sigma).pow(2))
    kernel = kernel / kernel.sum()
    window = kernel[:, None] @ kernel[None, :]
    flat = maps.reshape(-1, *maps.shape[-3:]) if maps.ndim > 3 else maps.reshape(1, -1, *maps.shape[-2:])
    channels = flat.shape[1]
    padded = F.pad(flat, [radius] * 4, mode="reflect")
    return F.conv2d(padded, window.expand(channels, 1, *window.shape), groups=channels).reshape(maps.shape)
