"""`cnnvis texture` as a user runs it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Ran
from tests.support.words import over

Run = Callable[..., Ran]
SMALL = ("size=96x64", "exemplar_size=96", "smallest=64", "steps=10", "-q")


def small(steps: str, *settings: str) -> list[str]:
    """Settings for a small texture; steps and scales only where the method has some."""
    words = over(SMALL, *over([steps], *settings))
    return [word for word in words if "method=" not in " ".join(settings) or not word.startswith(("steps=", "smallest="))]


def test_a_larger_texture_from_noise(cnnvis: Run) -> None:
    ran = cnnvis("texture", *SMALL)
    assert ran.code == 0, ran.err
    picture = np.asarray(Image.open(ran.files[0]))
    assert picture.shape == (64, 96, 3)
    assert np.ptp(picture.astype(int), axis=2).max() <= 2  # gravel is grey, and so is what is made of it
    scores = ran.sidecar["scores"]
    assert scores["style_distance"] < 0.3 * scores["style_distance_of_noise"]
    assert scores["copy_rate"] < 0.1
    assert {"spectrum_distance", "style_ratio"} <= set(scores)


def test_a_tileable_texture_wraps_without_a_seam(cnnvis: Run) -> None:
    ran = cnnvis("texture", "exemplar=sample:grass", *over(SMALL, "steps=40", "tileable=true"))
    assert ran.code == 0, ran.err
    assert ran.sidecar["scores"]["seam_ratio"] <= 1.05
    assert ran.sidecar["scores"]["line_ratio"] < 1.7, "nor is it hidden inside"


@pytest.mark.parametrize(
    "settings",
    [
        ("statistic=sliced",),
        ("statistic=gram", "pooling=average", "tileable=true"),
        ("exemplar=sample:coffee", "update=adam"),
        ("tile=32", "style_layers=relu1_1,relu2_1"),
        ("tile=32", "tileable=true", "style_layers=relu1_1,relu2_1", "size=64"),
        ("method=patches", "exemplar_size=32", "size=32", "window=7"),
        ("method=quilting", "exemplar_size=64", "tileable=true"),
    ],
)
def test_ways_to_do_it(cnnvis: Run, settings: tuple[str, ...]) -> None:
    ran = cnnvis("texture", *small("steps=3", *settings))
    assert ran.code == 0, ran.err
    assert np.asarray(Image.open(ran.files[0])).std() > 5
    assert "copy_rate" in ran.sidecar["scores"]


def test_a_strip_of_statistics_up_to_each_layer(cnnvis: Run) -> None:
    ran = cnnvis("texture", *over(SMALL, "steps=2", "strip=true", "style_layers=relu1_1,relu2_1,relu3_1"))
    assert ran.code == 0, ran.err
    assert [row["layers"][-1] for row in ran.sidecar["scores"]["pictures"]] == ["relu1_1", "relu2_1", "relu3_1"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("style_layers=relu12_1",), ("relu12_1",)),
        (("size=big",), ("size", "WIDTHxHEIGHT")),
        (("size=100x64", "tileable=true"), ("multiples of 16", "size=96x64")),
        (("window=8", "method=patches"), ("window", "9")),
        (("strip=true", "method=quilting"), ("strip",)),
        (("method=quilting", "exemplar_size=20"), ("blocks of 24",)),
        (("exemplar_size=16",), ("exemplar", "smallest")),
        (("layer_weights=1,2",), ("layer_weights",)),
    ],
)
def test_mistakes_are_told_in_a_line(cnnvis: Run, settings: tuple[str, ...], words: tuple[str, ...]) -> None:
    ran = cnnvis("texture", *small("steps=1", *settings))
    assert ran.code == 2
    for word in words:
        assert word in ran.err
