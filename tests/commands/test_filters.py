"""`cnnvis filters` as a user runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnvis_cli.engine.network.network import Network

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


def test_deeper_and_grey_filters(cnnvis: Run) -> None:
    deeper = cnnvis("filters", "layer=conv2_1", "channel=0-2", "inputs=0-4", "zoom=2", "scale=all")
    with Image.open(deeper.files[0]) as page:
        assert page.size == (5 * (6 + 4) + 4, 3 * (6 + 4) + 4)
    assert cnnvis("filters", "model=lenet").code == 0


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
