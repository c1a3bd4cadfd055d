"""`cnnvis activations` as a user runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.units.ranking import strengths
from cnnvis_cli.pictures import read

Run = Callable[..., Any]


def test_activations_are_the_layer_s(cnnvis: Run, minivgg: Network) -> None:
    ran = cnnvis("activations", "image=sample:coffee", "layer=relu3_1", "channel=3,8,5", "raw=true", "mark=2")
    assert ran.code == 0, ran.err
    whole = read.read(read.sample("coffee"))
    picture = read.resize(whole, *minivgg.fitted(whole.shape[2], whole.shape[3]))
    assert picture.shape[2:] == (96, 128)
    with torch.no_grad():
        maps = activations(minivgg, picture, ["relu3_1"])["relu3_1"][0]
    found = np.load(next(path for path in ran.files if path.suffix == ".npy"))
    np.testing.assert_allclose(found, maps[[3, 8, 5]].numpy(), atol=1e-5)
    strong = strengths(maps)
    sidecar = ran.sidecar
    assert sidecar["scores"]["strongest_unit"] == int(strong.argmax())
    assert sidecar["marked"] == sorted([3, 8, 5], key=lambda unit: -strong[unit].item())[:2]
    assert len(ran.files) == 3


@pytest.mark.parametrize("settings", [["model=lenet"], ["scale=all", "layer=conv1_1", "count=3"], ["mark=0"], ["size=64"]])
def test_activations_run(cnnvis: Run, settings: list[str]) -> None:
    assert cnnvis("activations", *settings).code == 0


@pytest.mark.parametrize(
    ("settings", "message"), [(["layer=fc"], "vector"), (["image=nothing.png"], "no picture"), (["channel=x"], "channel")]
)
def test_activations_refuse(cnnvis: Run, settings: list[str], message: str) -> None:
    ran = cnnvis("activations", *settings)
    assert ran.code == 2
    assert message in ran.err


def test_a_convolution_is_shown_as_its_rectifier_lets_it_through(cnnvis: Run) -> None:
    ran = cnnvis("activations", "layer=conv2_1", "count=4", "mark=0")
    assert ran.sidecar["scores"]["layer"] == "relu2_1"
    signed = cnnvis("activations", "layer=conv2_1", "count=4", "mark=0", "rectified=false", "name=signed")
    assert signed.sidecar["scores"]["layer"] == "conv2_1"
    with Image.open(signed.files[0]) as opened:
        tile = np.asarray(opened.convert("RGB"))[4:100, 4:132].astype(int)
    assert (tile[..., 0] - tile[..., 2]).max() > 60  # red and blue around white
    assert (tile[..., 2] - tile[..., 0]).max() > 60


def test_the_layer_that_was_found_is_in_the_file_s_name(cnnvis: Run) -> None:
    ran = cnnvis("activations", "count=4", "mark=2")
    layer = ran.sidecar["scores"]["layer"]
    assert [path.name.endswith((f"-{layer}.png", f"-{layer}-overlay.png")) for path in ran.files] == [True, True]


def test_a_grid_has_a_tile_for_each_place_fainter_where_the_layer_is_silent(cnnvis: Run) -> None:
    ran = cnnvis("activations", "layer=relu3_1", "count=2", "mark=0", "grid=true", "cells=2", "steps=3", "size=64")
    assert ran.code == 0, ran.err
    assert ran.files[-1].name.endswith("-grid.png")
    rows, columns = ran.sidecar["grid"]
    assert max(rows, columns) == 2
    ran = cnnvis("activations", "cells=2")
    assert "cells has no effect" in ran.err
