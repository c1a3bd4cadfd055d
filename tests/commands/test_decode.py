"""Decoders and maskers as a user trains and uses them: `train kind=decoder|masker`, `invert`, `style method=`, `maximize`,
`saliency method=masker`."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cnnvis_cli.cli.app import app
from cnnvis_cli.jobs.progress import Interrupt
from tests.conftest import Ran
from tests.support.words import over

Run = Callable[..., Ran]
CATS = (
    "images=sample:chelsea,sample:coffee,sample:astronaut",
    "held_out=sample:rocket",
    "size=32",
    "batch=2",
    "judged=1",
    "-q",
)
TINY = ("kind=decoder", *CATS, "levels=relu1_1,relu2_1", "zoom=0.5,1", "styles=sample:brick", "rate=0.004", "warm=5")
PAIR = ("steps=12", "stagewise=0.4", "transfers=0.5")


def file(name: str) -> Path:
    return Path(f"runs/train/{name}.safetensors")


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder that has learned for a moment."""
    folder = tmp_path_factory.mktemp("trained")
    ran = CliRunner().invoke(app, ["train", *TINY, "steps=90", "stagewise=0.8", "name=small", "--out", str(folder)])
    assert ran.exit_code == 0, ran.stderr
    return folder / "small.safetensors"


def test_it_learns_and_is_worse_with_depth(trained: Path) -> None:
    scores = json.loads(trained.with_suffix(".json").read_text())["scores"]
    assert scores["psnr_relu1_1"] > scores["psnr_of_the_mean_color"]
    assert scores["psnr_relu1_1"] > scores["psnr_relu2_1"]
    assert scores["ripple_before"] < 0.01  # nearest


@pytest.mark.parametrize("kind", ["decoder", "masker"])
def test_an_interrupted_training_goes_on_to_the_same_bytes(cnnvis: Run, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    settings = (*TINY, *PAIR) if kind == "decoder" else ("kind=masker", *CATS, "steps=6", "width=8")
    assert cnnvis("train", *settings, "name=whole").code == 0
    counted = itertools.count()
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "__call__", lambda self: next(counted) == 4)
        assert cnnvis("train", *settings, "name=rest").code == 130
    assert not file("rest").exists()
    assert cnnvis("train", *settings, "name=rest").code == 0
    assert file("rest").read_bytes() == file("whole").read_bytes()


def test_skips_help_and_are_no_inversion(cnnvis: Run, trained: Path) -> None:
    ran = cnnvis("train", *over(TINY, "styles="), "steps=90", "stagewise=0.8", "name=skips", "skips=true")
    plain = json.loads(trained.with_suffix(".json").read_text())["scores"]
    assert ran.sidecar["scores"]["psnr_relu2_1"] > plain["psnr_relu2_1"]
    for line in (("style", "method=transport"), ("invert", "method=decoder")):
        ran = cnnvis(*line, f"decoder={file('skips')}")
        assert ran.code == 2
        assert "skips" in ran.err


def test_a_layer_is_inverted_in_one_pass_beside_the_optimizer(cnnvis: Run, trained: Path) -> None:
    ran = cnnvis("invert", "method=decoder", f"decoder={trained}", "steps=10", "size=64", "-q")
    assert ran.code == 0, ran.err
    rows = ran.sidecar["scores"]["layers"]
    assert [(row["method"], row["layer"]) for row in rows] == [
        (method, layer) for method in ("decoder", "optimizer") for layer in ("relu1_1", "relu2_1")
    ]
    assert all(row["seconds"] > 0 and -1 < row["ssim"] <= 1 for row in rows)
    alone = cnnvis(
        "invert", "method=decoder", f"decoder={trained}", "compare=false", "size=64", "layers=relu1_1", "name=one", "-q"
    )
    assert len(alone.sidecar["scores"]["layers"]) == 1
    assert cnnvis("invert", "method=decoder", f"decoder={trained}", "size=63").code == 2
    assert "its levels are relu1_1, relu2_1" in cnnvis("invert", "method=decoder", f"decoder={trained}", "layer=relu3_1").err


def test_the_optimizer_goes_on_from_the_pass_and_in_the_codes(cnnvis: Run, trained: Path) -> None:
    plain = cnnvis("invert", "layer=relu2_1", "steps=3", "size=64", "name=noise", "-q").sidecar["scores"]
    line = ("invert", f"decoder={trained}", "layer=relu2_1", "steps=3", "size=64", "-q")
    after = cnnvis(*line, "start=decoder", "name=start").sidecar["scores"]
    assert after["code_distance"] < plain["code_distance"]
    first = cnnvis(*line[:3], "steps=1", "size=64", "parameterization=decoder", "name=first", "-q").sidecar["scores"]
    more = cnnvis(*line[:3], "steps=30", "size=64", "parameterization=decoder", "name=more", "-q").sidecar["scores"]
    assert more["code_distance"] < first["code_distance"]
    ran = cnnvis(
        "maximize", "parameterization=decoder", f"decoder={trained}", "steps=10", "size=64", "objective=channel:conv2_1:3", "-q"
    )
    assert ran.code == 0, ran.err
    assert ran.sidecar["scores"]["value"] > ran.sidecar["scores"]["start"]


@pytest.mark.parametrize("method", ["adain", "wct", "transport", "histogram"])
def test_style_from_any_picture_in_one_pass(cnnvis: Run, trained: Path, method: str) -> None:
    line = ("style", f"method={method}", f"decoder={trained}", "levels=relu2_1", "content=sample:coffee", "size=96", "-q")
    ran = cnnvis(*line, "style=sample:starry_night")
    assert ran.code == 0, ran.err
    none = cnnvis(*line, "style=sample:starry_night", "strength=0", "name=none").sidecar["scores"]
    assert ran.sidecar["scores"]["style_distance"] < none["style_distance"]
    two = cnnvis(*line, "style=sample:starry_night,sample:brick", "style_shares=1,0", "name=two")
    assert np.abs(pixels(two.files[0]).astype(int) - pixels(ran.files[0])).max() <= 2  # quantiles of two lengths are resampled
    Image.new("L", (600, 400), 255).save("mask.png")
    masked = cnnvis(*line, "style=sample:starry_night", "masks=mask.png", "name=masked")
    assert masked.code == 0, masked.err
    assert np.abs(pixels(masked.files[0]).astype(int) - pixels(ran.files[0])).max() <= 1
    colors = cnnvis(*line, "style=sample:starry_night", "colors=content", "name=colors")
    assert not np.array_equal(pixels(colors.files[0]), pixels(ran.files[0]))


def test_a_second_round_brings_the_style_nearer(cnnvis: Run) -> None:
    line = ("style", "method=transport", "content=sample:astronaut", "style=sample:composition_vii", "size=160", "-q")
    one, two = (cnnvis(*line, f"rounds={rounds}").sidecar["scores"] for rounds in (1, 2))
    assert two["style_distance"] < 0.8 * one["style_distance"]
    assert two["content_distance"] > one["content_distance"]


def test_one_table_for_all_ways(cnnvis: Run, trained: Path) -> None:
    grid = "grid={method: [optimize, feedforward, adain, transport]}"
    line = (
        "content=sample:coffee",
        "style=great_wave",
        "stylizer=paintings",
        "size=64",
        "smallest=64",
        "steps=3",
        "levels=relu2_1",
    )
    ran = cnnvis("style", *line, f"decoder={trained}", grid, "-q")
    assert ran.code == 0, ran.err
    rows = ran.sidecar["scores"]["pictures"]
    assert [row["method"] for row in rows] == ["optimize", "feedforward", "adain", "transport"]
    assert len({row["style_distance_of_content"] for row in rows}) == 1  # one style, one content, one measure
    assert len({row["style_distance"] for row in rows}) == 4
    assert all(row["seconds"] > 0 for row in rows)
    table = next(path for path in ran.files if path.suffix == ".csv")
    assert [row["method"] for row in csv.DictReader(table.read_text().splitlines())] == [row["method"] for row in rows]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("style", "decoder=x.safetensors"), "decoder has no effect"),
        (("style", "method=wct", "stylizer=paintings"), "stylizer has no effect"),
        (("style", "method=transport", "steps=5"), "steps has no effect"),
        (("style", "method=transport", "decoder=nowhere"), "no decoder 'nowhere'"),
        (("style", "method=transport", "levels=conv1_1", "decoder={}"), "its levels are relu1_1, relu2_1"),
        (("style", "method=transport", "model=lenet"), "train kind=decoder model=lenet"),
        (("invert", "method=decoder", "count=2"), "count has no effect"),
        (("invert", "method=decoder", "model=minivgg_robust", "decoder={}"), "was trained for minivgg"),
        (("saliency", "method=masker", "masker={}"), "holds a decoder, not a masker"),
        (("train", "kind=decoder", "levels=fc"), "no maps"),
        (("train", "kind=decoder", "area=5"), "area has no effect"),
    ],
)
def test_mistakes_end_in_one_line(cnnvis: Run, trained: Path, line: tuple[str, ...], said: str) -> None:
    ran = cnnvis(*(word.replace("{}", str(trained)) for word in line))
    assert ran.code == 2
    assert said in ran.err.replace("\n", " ")
    assert "Traceback" not in ran.err


def test_a_masker_answers_for_the_class_it_is_asked_about(cnnvis: Run) -> None:
    ran = cnnvis("train", "kind=masker", *CATS, "steps=4", "width=8", "name=masks")
    assert ran.code == 0, ran.err
    line = ("saliency", "method=masker", f"masker={file('masks')}", "image=sample:chelsea", "score=false", "segment=true", "-q")
    first, second = (cnnvis(*line, f"target={target}", f"name={target}", "raw=true") for target in ("elephant", "airplane"))
    assert first.code == second.code == 0, first.err
    maps = [np.load(next(path for path in ran.files if path.suffix == ".npy")) for ran in (first, second)]
    assert all(one.min() >= 0 and one.max() <= 1 for one in maps)
    assert not np.allclose(*maps)
    assert "for a class" in cnnvis(*line, "target=channel:conv4_1:7").err
