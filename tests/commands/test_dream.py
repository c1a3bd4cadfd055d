"""`cnnvis dream` as a user runs it: the objective rises, sheets, guides, tiles, zoom, resumption, and every refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from cnnvis_cli.jobs.progress import Interrupt
from cnnvis_cli.pictures import write
from cnnvis_cli.pictures.read import PictureFile, read

FAST = ("dream", "-q", "size=64", "smallest=24", "octaves=2", "steps=3", "objective=layer:relu2_1")


def test_every_octave_raises_the_objective_on_the_saved_file(cnnvis: Callable[..., Any]) -> None:
    ran = cnnvis(*FAST)
    assert ran.code == 0, ran.err
    with Image.open(ran.files[0]) as picture:
        assert picture.width == 64  # the longer side; the shape stays
        assert picture.height < 64
    scores = ran.sidecar["scores"]
    assert scores["after"] > 1.1 * scores["before"]
    assert [octave["width"] for octave in scores["octaves"]] == [46, 64]
    assert all(octave["after"] > octave["before"] for octave in scores["octaves"])
    assert scores["octaves"][-1]["after"] == pytest.approx(scores["after"], rel=1e-4)


def test_sheet_of_layers(cnnvis: Callable[..., Any]) -> None:
    ran = cnnvis("dream", "-q", "size=48", "octaves=1", "steps=2", "layers=relu1_1,relu2_1,relu3_1", "columns=3")
    assert ran.code == 0, ran.err
    dreams = ran.sidecar["scores"]["dreams"]
    assert [one["objective"] for one in dreams] == ["layer:relu1_1", "layer:relu2_1", "layer:relu3_1"]
    assert all(one["after"] > one["before"] for one in dreams)


def test_guide_leads_elsewhere(cnnvis: Callable[..., Any]) -> None:
    plain = cnnvis(*FAST)
    ran = cnnvis(*FAST, "guide=sample:flower")
    assert ran.code == 0, ran.err
    assert ran.sidecar["scores"]["objective"] == "guided:relu2_1"
    assert ran.sidecar["scores"]["after"] > ran.sidecar["scores"]["before"]
    assert ran.files[0].read_bytes() != plain.files[0].read_bytes()


def test_weighted_sums_classes_and_noise(cnnvis: Callable[..., Any]) -> None:
    ran = cnnvis("dream", "-q", "image=noise", "size=64", "octaves=1", "steps=2", "objective=layer:relu2_1 + 0.1*class:0")
    assert ran.code == 0, ran.err
    assert ran.sidecar["scores"]["after"] > ran.sidecar["scores"]["before"]


def test_tiles_give_the_same_dream(cnnvis: Callable[..., Any]) -> None:
    settings = ("dream", "-q", "size=160", "octaves=1", "steps=2", "objective=layer:relu2_1", "smooth=0", "rate=0.02")
    whole = cnnvis(*settings, "--out", "whole")
    tiled = cnnvis(*settings, "tile=64", "--out", "tiled")
    assert tiled.code == 0, tiled.err
    one, other = (read(PictureFile("", ran.files[0])) for ran in (whole, tiled))
    assert (one - other).abs().max() <= 1.01 / 255


def test_size_zero_is_the_pictures_own(cnnvis: Callable[..., Any]) -> None:
    Image.new("RGB", (70, 50), (90, 140, 60)).save("own.png")
    ran = cnnvis("dream", "-q", "image=own.png", "size=0", "octaves=1", "steps=1", "objective=layer:relu1_1")
    assert ran.code == 0, ran.err
    with Image.open(ran.files[0]) as picture:
        assert picture.size == (70, 50)


def test_zoom_makes_a_video(cnnvis: Callable[..., Any]) -> None:
    ran = cnnvis(*FAST, "zoom=3", "zoom_steps=1", "video=gif")
    assert ran.code == 0, ran.err
    with Image.open(ran.files[1]) as video:
        assert video.n_frames == 3
    film = cnnvis(*FAST, "zoom=3", "zoom_steps=1", "video=mp4", "name=film")
    if write.has_video():
        assert film.files[1].suffix == ".mp4"
        assert film.files[1].stat().st_size > 500
    else:
        assert film.code == 2
        assert "cnnvis[video]" in film.err


@pytest.mark.parametrize("at", [2, 5])
def test_interrupted_dream_goes_on_to_the_same_picture(
    cnnvis: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    whole = cnnvis(*FAST, "--out", "whole")
    calls = 0

    def once(self: Interrupt) -> bool:
        nonlocal calls
        calls += 1
        return calls == at

    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "__call__", once)
        stopped = cnnvis(*FAST, "--out", "parts")
    assert stopped.code == 130
    again = cnnvis(*FAST, "--out", "parts")
    assert again.code == 0
    assert again.files[0].read_bytes() == whole.files[0].read_bytes()
    assert not list(Path("parts").glob("*.state"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["objective=layer:relu9_1"], "relu9_1"),
        (["objective=channel:relu2_1:0-3"], "a dream has one"),
        (["objective=class:0", "guide=sample:flower"], "a guide needs layers with maps"),
        (["guide=nothing.png"], "no picture 'nothing.png'"),
        (["objective=layer:relu5_1", "octaves=6", "smallest=8", "image=noise"], "raise smallest="),
        (["layers=relu1_1,relu2_1", "zoom=5"], "zoom goes into one dream"),
        (["layer=relu1_1", "objective=class:0"], "give one of them"),
        (["octavez=3"], "Did you mean 'octaves'"),
    ],
)
def test_refusals(cnnvis: Callable[..., Any], settings: list[str], message: str) -> None:
    given = {setting.split("=")[0] for setting in settings}
    given |= {"objective"} if "layers" in given else set()
    ran = cnnvis(*(word for word in FAST if word.split("=")[0] not in given), *settings)
    assert ran.code == 2
    assert message in ran.err


def test_dream_keeps_colors_and_draws_no_frame(cnnvis: Callable[..., Any]) -> None:
    """Mean colours stay, contrast grows, and the border changes about as much as the middle."""
    common = ("dream", "-q", "size=96", "objective=layer:relu3_1")
    made = read(PictureFile("", cnnvis(*common, "octaves=2", "steps=8").files[0]))
    base = read(PictureFile("", cnnvis(*common, "octaves=1", "steps=1", "rate=1e-9", "name=plain").files[0]))
    assert (made.mean((2, 3)) - base.mean((2, 3))).abs().max() < 0.08
    assert made.std() > base.std()
    change = (made - base).square().mean(1)[0]
    border = torch.ones_like(change, dtype=torch.bool)
    border[4:-4, 4:-4] = False
    assert 0.4 < (change[border].mean() / change[~border].mean()).item() < 2.0
