"""`cnnvis activations` as a user runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

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
