"""`cnnvis invert` as a user runs it: strips, variants, codes from files and folders, channels, and every refusal."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnnvis_cli.commands.invert import rank_correlation
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.synthesis.inversion import layer_code
from cnnvis_cli.jobs.progress import Interrupt
from cnnvis_cli.pictures.read import read, sample, to_square

FAST = ("invert", "-q", "size=48", "steps=6")


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_strip_of_depths_with_table_and_plot(cnnvis: Callable[..., Any]) -> None:
    ran = cnnvis("invert", "-q", "size=48", "layers=relu1_1,relu2_1,relu3_1", "steps=40")
    assert ran.code == 0, ran.err
    strip, numbers, plot = ran.files
    assert Image.open(strip).width > 4 * 48
    assert Image.open(plot).mode == "RGB"
    rows = table(numbers)
    assert [row["layer"] for row in rows] == ["relu1_1", "relu2_1", "relu3_1"]
    similar = [float(row["ssim"]) for row in rows]
    assert similar[0] > 0.7
    assert similar == sorted(similar, reverse=True)
    scores = ran.sidecar["scores"]
    assert scores["rank_correlation_of_ssim_with_depth"] == pytest.approx(-1)
    assert scores["layers"][0]["code_distance"] < 0.05
    assert len(ran.sidecar["trace"]["relu1_1"]) == 40


def test_variants_are_compared_in_pairs(cnnvis: Callable[..., Any]) -> None:
    ran = cnnvis(*FAST, "layer=fc", "count=3")
    assert ran.code == 0, ran.err
    pairs = table(next(path for path in ran.files if path.name.endswith("pairs.csv")))
    assert [(row["first"], row["second"]) for row in pairs] == [("1", "2"), ("1", "3"), ("2", "3")]
    assert all(float(row["pixel_rms"]) > 0.01 for row in pairs)
    assert len(table(next(path for path in ran.files if path.name.endswith("table.csv")))) == 3


def test_a_code_alone_is_enough(cnnvis: Callable[..., Any], tmp_path: Path, minivgg: Network) -> None:
    picture = to_square(read(sample("chelsea")), 48)
    np.save(tmp_path / "code.npy", layer_code(minivgg, "relu1_2", picture)[0].numpy())
    ran = cnnvis("invert", "-q", "size=48", "code=code.npy", "layer=relu1_2", "steps=60")
    assert ran.code == 0, ran.err
    assert ran.sidecar["scores"]["code_distance"] < 0.05
    assert "ssim" not in ran.sidecar["scores"]
    with Image.open(ran.files[0]) as page:
        made = (
            torch.from_numpy(np.array(page)).permute(2, 0, 1)[None].float()[..., 4:148:3, 4:148:3] / 255
        )  # enlarged three times
    assert (made - picture).square().mean().sqrt() < 0.15


def test_mean_code_of_a_folder(cnnvis: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    for name in ("chelsea", "coffee"):
        Image.open(sample(name).path).save(tmp_path / "some" / f"{name}.png")
    ran = cnnvis(*FAST, "mean=some", "layer=pool2")
    assert ran.code == 0, ran.err
    assert ran.sidecar["pictures"] == 2
    assert len(ran.sidecar["inputs"]) == 2


def test_channels_are_ranked_and_pruned(cnnvis: Callable[..., Any], tmp_path: Path) -> None:
    for number, name in enumerate(("chelsea", "coffee", "china")):
        (tmp_path / "labelled" / str(number)).mkdir(parents=True)
        Image.open(sample(name).path).resize((60, 48)).save(tmp_path / "labelled" / str(number) / f"{name}.png")
    settings = ("layer=relu2_1", "channels=true", "reconstruct=2", "prune=0.5", "labelled=labelled", "draws=2")
    ran = cnnvis("invert", "-q", "size=48", "steps=8", *settings)
    assert ran.code == 0, ran.err
    by_name = {path.name.rsplit("-", 1)[-1]: path for path in ran.files}
    rows = table(by_name["channels.csv"])
    assert len(rows) == 64
    values = [float(row["importance"]) for row in rows]
    assert values == sorted(values, reverse=True)
    changes = [row["reconstruction_change"] for row in rows]
    assert [bool(change) for change in changes] == [True] * 2 + [False] * 60 + [True] * 2
    assert float(changes[0]) > float(changes[-1])
    curve = table(by_name["prune.csv"])
    assert [int(row["removed"]) for row in curve][::4] == [0, 16, 32]
    assert {"channels.png", "without.png", "prune.png"} <= set(by_name)


def test_interrupted_run_goes_on_to_the_same_picture(cnnvis: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = (*FAST, "layers=relu1_1,relu2_1")
    whole = cnnvis(*settings, "--out", "whole")
    calls = 0

    def at_nine(self: Interrupt) -> bool:
        nonlocal calls
        calls += 1
        return calls == 9

    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "__call__", at_nine)
        stopped = cnnvis(*settings, "--out", "parts")
    assert stopped.code == 130
    assert "goes on from there" in stopped.err
    again = cnnvis(*settings, "--out", "parts")
    assert again.code == 0
    assert again.files[0].read_bytes() == whole.files[0].read_bytes()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["layer=relu9_1"], "relu9_1"),
        (["code=missing.npy", "layer=relu1_1"], "cannot read the code missing.npy"),
        (["code=missing.npy"], "code needs the layer"),
        (["code=a.npy", "mean=b", "layer=relu1_1"], "exclude each other"),
        (["layers=relu1_1", "layer=relu1_2"], "give one of them"),
        (["layer=relu1_1", "channels=true", "following=conv1_1"], "does not come after"),
        (["layer=relu1_1", "prune=0.2"], "prune needs labelled=FOLDER"),
        (["image=sample:chelsee"], "Did you mean 'chelsea'"),
        (["stepz=3"], "Did you mean 'steps'"),
        (["mean=."], "holds no pictures"),
    ],
)
def test_refusals(cnnvis: Callable[..., Any], settings: list[str], message: str) -> None:
    ran = cnnvis(*FAST, *settings)
    assert ran.code == 2
    assert message in ran.err


def test_a_code_of_another_shape_is_refused(cnnvis: Callable[..., Any], tmp_path: Path) -> None:
    np.save(tmp_path / "code.npy", np.ones((5, 4, 4), dtype=np.float32))
    ran = cnnvis(*FAST, "code=code.npy", "layer=relu1_1")
    assert ran.code == 2
    assert "(5, 4, 4)" in ran.err
    assert "(32, 48, 48)" in ran.err


def test_rank_correlation_is_spearmans() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = [0.1, 0.4, 0.2, 0.9, 0.7]
    assert rank_correlation(values) == pytest.approx(stats.spearmanr(values, range(5)).statistic)


def test_a_code_that_is_still_far_is_gone_on_for_and_what_stays_far_is_said(
    cnnvis: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnnvis_cli.commands import invert

    monkeypatch.setattr(invert, "_STEPS", 3)
    far = cnnvis("invert", "layers=relu5_2", "size=160", "name=far")
    assert len(far.sidecar["trace"]["relu5_2"]) == 3 + 2 * 3
    assert far.sidecar["parameterizations"] == {"relu5_2": "fourier"}, "a coarse map of a large picture"
    assert "the code is further off than 0.1" in far.err
    asked = cnnvis("invert", "layers=relu5_2,relu2_1", "steps=3", "name=asked")
    assert len(asked.sidecar["trace"]["relu5_2"]) == 3
    assert set(asked.sidecar["parameterizations"].values()) == {"pixels"}, "a small picture; a fine map"
