"""Numbers as colours."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


@cache
def _table(colors: str) -> Tensor:
    """(256, 3) uint8: one of matplotlib's colour maps. They lie beside this file, since importing matplotlib takes long."""
    with np.load(Path(__file__).with_name("colors.npz")) as tables:
        return torch.from_numpy(tables[colors])


def colorize(values: Tensor, colors: str = "inferno") -> Tensor:
    """A map (H, W) in [0, 1] as an 8-bit picture (3, H, W) in [0, 1] through one of matplotlib's colour maps."""
    table = _table(colors).to(values.device)
    index = (values.detach().double().clamp(0, 1) * 256).long().clamp_max(255)
    return table[index].permute(2, 0, 1).float() / 255
