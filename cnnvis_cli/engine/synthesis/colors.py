"""Whose colours a stylized picture wears (Gatys et al. 2016, "Preserving color in neural artistic style transfer")."""

from __future__ import annotations

import torch
from torch import Tensor

from cnnvis_cli.engine.pixels import luma


def with_colors_of(pictures: Tensor, source: Tensor) -> Tensor:
    """The luma of `pictures` (B, 3, H, W) with the chroma of `source` (1 or B, 3, H, W); sRGB in [0, 1].

    Where the two together leave the cube of colours, the chroma is scaled down and the luma kept.
    """
    light = luma(pictures)
    chroma = source - luma(source)
    room = torch.where(chroma > 0, (1 - light) / chroma.clamp_min(1e-6), light / (-chroma).clamp_min(1e-6))
    return (light + chroma * room.amin(1, keepdim=True).clamp(0, 1)).clamp(0, 1)


def recolored(picture: Tensor, goal: Tensor) -> Tensor:
    """`picture` (1, 3, H, W) with the mean and covariance of the colours of `goal` (1, 3, h, w); sRGB in [0, 1].

    The linear map of least change, C^-1/2 (C^1/2 C* C^1/2)^1/2 C^-1/2: optimal transport of Gaussians.
    """

    def moments(one: Tensor) -> tuple[Tensor, Tensor]:
        values = one[0].flatten(1).double()
        return values.mean(1, keepdim=True), torch.cov(values) + 1e-6 * torch.eye(3, dtype=torch.double)

    def root(matrix: Tensor, power: float) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        return (vectors * values.clamp_min(1e-12).pow(power)) @ vectors.mT

    (mean, spread), (new_mean, new_spread) = moments(picture.cpu()), moments(goal.cpu())
    half, inverse = root(spread, 0.5), root(spread, -0.5)
    change = inverse @ root(half @ new_spread @ half, 0.5) @ inverse
    values = change @ (picture.cpu()[0].flatten(1).double() - mean) + new_mean
    return values.view_as(picture).clamp(0, 1).to(picture)
