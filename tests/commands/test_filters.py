"""`cnnvis filters` as a user runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.pictures.matrix import tile_matrix

Run = Callable[..., Any]


def test_filters_show_the_weights(cnnvis: Run, minivgg: Network) -> None:
    ran = cnnvis("filters", "zoom=4", "columns=8", "raw=true")
    assert ran.code == 0, ran.err
    page, array = ran.files
    weights = minivgg.module.get_submodule("conv1_1").weight.detach().numpy()
    np.testing.assert_allclose(np.load(array), weights, rtol=1e-6)
    tile = weights[0] / np.abs(weights[0]).max() * 0.5 + 0.5
    with Image.open(page) as opened:
        picture = np.asarray(opened)[4:16, 4:16][2::4, 2::4] / 255
    np.testing.assert_allclose(picture, tile.transpose(1, 2, 0), atol=0.5 / 255 + 1e-6)
    assert ran.sidecar["scores"]["filters"] == 32


@pytest.mark.parametrize("sort", ["none", "norm", "similar"])
def test_filters_are_sorted_but_all_there(cnnvis: Run, sort: str) -> None:
    sidecar = cnnvis("filters", f"sort={sort}", "zoom=1").sidecar
    assert sorted(sidecar["shown"]) == list(range(32))
    if sort == "norm":
        assert sidecar["norms"] == sorted(sidecar["norms"], reverse=True)
    if sort == "none":
        assert sidecar["shown"] == list(range(32))


def test_deeper_filters_are_one_matrix_each_filter_on_its_own_scale(cnnvis: Run, minivgg: Network) -> None:
    ran = cnnvis("filters", "layer=conv2_1", "channel=3,5", "inputs=0-7", "zoom=12")
    weights = minivgg.module.get_submodule("conv2_1").weight.detach()[[3, 5]][:, :8]
    shades = (0.5 + 0.5 * weights / weights.abs().amax((1, 2, 3), keepdim=True)).numpy()
    with Image.open(ran.files[0]) as page:
        values = np.asarray(page.convert("L")) / 255
    left, top = values.shape[1] - 8 * 38, 22
    for row in range(2):
        for column in range(8):
            y, x = top + row * 38, left + column * 38
            np.testing.assert_allclose(values[y : y + 36 : 12, x : x + 36 : 12], shades[row, column], atol=0.6 / 255)
    assert values[top + 37, left + 1] == pytest.approx(128 / 255)  # paper of the grey that zero has


def test_dead_filters_are_marked() -> None:
    tiles = torch.full((3, 4, 1, 1), 0.5)
    page = np.asarray(tile_matrix(tiles, ["0", "1 dead", "2"], list("0123"), 16, gap=0, marked=[1]))
    red = (page[..., 0].astype(int) - page[..., 1]) > 100
    rows = np.flatnonzero(red.any(1))
    assert rows.min() >= 22 + 16 - 2
    assert rows.max() <= 22 + 32 + 2


@pytest.mark.parametrize("settings", [["model=lenet"], ["model=lenet", "layer=conv2", "scale=all"]])
def test_grey_filters(cnnvis: Run, settings: list[str]) -> None:
    assert cnnvis("filters", *settings).code == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["layer=relu2_1"], "conv2_1"),
        (["layer=fc"], "conv5_2"),
        (["layer=conv9"], "conv"),
        (["channel=32"], "0 to 31"),
        (["sort=size"], "sort"),
    ],
)
def test_filters_refuse(cnnvis: Run, settings: list[str], message: str) -> None:
    ran = cnnvis("filters", *settings)
    assert ran.code == 2
    assert message in ran.err
