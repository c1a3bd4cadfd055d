"""Numbers as colours."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor


@cache
def _table(colors: str) -> Tensor:
    """(256, 3) uint8: one of matplotlib's colour maps."""
    from matplotlib import colormaps

    return torch.from_numpy((colormaps[colors](np.arange(256))[:, :3] * 255).round().astype(np.uint8))


def colorize(values: Tensor, colors: str = "inferno") -> Tensor:
    """A map (H, W) in [0, 1] as an 8-bit picture (3, H, W) in [0, 1] through one of matplotlib's colour maps."""
    table = _table(colors).to(values.device)
    index = (values.detach().double().clamp(0, 1) * 256).long().clamp_max(255)
    return table[index].permute(2, 0, 1).float() / 255
