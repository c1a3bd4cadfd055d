"""Colour maps are matplotlib's, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib import colormaps

from cnnvis_cli.pictures.color import colorize


@pytest.mark.parametrize("name", ["inferno", "magma", "RdBu_r"])
def test_colours_are_those_of_matplotlib(name: str) -> None:
    values = torch.rand(20, 30, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    wanted = (colormaps[name](values.double().numpy().clip(0, 1))[..., :3] * 255).round()
    found = (colorize(values, name) * 255).round().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, wanted)
