"""`cnnvis patches` as a user runs it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from cnnvis_cli.config.load import build_config
from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.errors import Interrupted
from cnnvis_cli.jobs.progress import Interrupt
from cnnvis_cli.jobs.run import run_job
from cnnvis_cli.jobs.session import Session
from cnnvis_cli.pictures import read
from cnnvis_cli.registry import config_class
from tests.support.noise import noise_folder
from tests.support.tables import rows

Run = Callable[..., Any]


def test_patches_hold_what_the_unit_saw(cnnvis: Run, collection: Path, minivgg: Network) -> None:
    """The box, in the file's own pixels, excites the unit as much as the whole picture, whatever lies around it."""
    for path in sorted(collection.rglob("*.png"))[::2]:  # larger than what the network sees, and not square
        with Image.open(path) as picture:
            picture.resize((256, 192), Image.Resampling.NEAREST).save(path)
    ran = cnnvis("patches", f"images={collection}", "layer=relu2_2", "channel=4,20", "count=3", "batch=4")
    assert ran.code == 0, ran.err
    found = rows(ran.files[1])
    assert [(row["unit"], row["rank"]) for row in found] == [(u, r) for u in ("4", "20") for r in "123"]
    for row in found:
        whole = read.read(read.PictureFile("", Path(row["file"])))
        seen = read.resize(whole, *minivgg.fitted(*whole.shape[2:]))
        scale = seen.shape[2] / whole.shape[2]
        top, bottom, left, right = (round(int(row[key]) * scale) for key in ("top", "bottom", "left", "right"))
        assert bottom - top <= 14
        around = torch.full_like(seen, 0.5)
        around[..., top:bottom, left:right] = seen[..., top:bottom, left:right]
        with torch.no_grad():
            answer = activations(minivgg, around, ["relu2_2"])["relu2_2"][0, int(row["unit"])]
        assert answer[int(row["row"]), int(row["column"])].item() == pytest.approx(float(row["value"]), rel=1e-3, abs=1e-4)


def test_a_corrupt_picture_is_named_left_out_and_counted(cnnvis: Run, collection: Path) -> None:
    (collection / "red" / "2.png").write_bytes((collection / "red" / "2.png").read_bytes()[:200])
    for again in (False, True):
        ran = cnnvis("patches", f"images={collection}", "layer=relu1_2", "channel=0-1", "count=2")
        assert ran.code == 1
        assert "red/2.png" in ran.err.replace("\\", "/")
        assert "1 picture that could not be read was left out" in ran.err
        assert [path.suffix for path in ran.files] == [".png", ".csv"]
        assert ran.sidecar["scores"]["pictures"] == 14
        assert ran.sidecar["scores"]["left_out"] == 1
        assert ("kept" in ran.err) == again


def test_no_readable_picture(cnnvis: Run, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_text("no")
    for command in ("patches", "neighbors", "embed"):
        ran = cnnvis(command, "images=bad")
        assert ran.code == 2
        assert "a.png" in ran.err
    (tmp_path / "empty").mkdir()
    assert cnnvis("patches", "images=empty").code == 2


def test_patches_of_a_layer_that_sees_everything(cnnvis: Run, collection: Path) -> None:
    ran = cnnvis("patches", f"images={collection}", "layer=fc", "channel=3", "count=2")
    assert ran.code == 0, ran.err
    assert {row["right"] for row in rows(ran.files[1])} == {"100"}  # the whole file
    assert ran.sidecar["scores"]["receptive_field"] is None


@pytest.mark.parametrize("command", ["patches", "neighbors"])
def test_an_interrupted_run_goes_on_to_the_same_result(cnnvis: Run, collection: Path, command: str) -> None:
    """In-process, so that the picture at which the interruption comes is known."""
    settings = {"images": str(collection), "layer": "relu2_1", "count": 3, "batch": 2}
    config = build_config(config_class(command), settings)
    run_job(command, config, Path("whole"), Session(torch.device("cpu"), quiet=True))
    calls = iter(range(10_000))
    stop = 9 if command == "patches" else 15 + 9  # neighbors looks at every file before it reads pictures
    session = Session(torch.device("cpu"), quiet=True)
    session.interrupt = lambda: next(calls) >= stop  # type: ignore[assignment]
    session.interrupt.listen = nullcontext  # type: ignore[attr-defined]
    with pytest.raises(Interrupted, match="goes on from there"):
        run_job(command, config, Path("stopped"), session)
    job = run_job(command, config, Path("stopped"), Session(torch.device("cpu"), quiet=True))
    table = job.files[1]
    assert rows(table) == rows(Path("whole") / table.name)
    assert (Path("stopped") / job.files[0].name).read_bytes() == (Path("whole") / job.files[0].name).read_bytes()
    if command == "neighbors":
        assert job.record.scores["reused_from_index"] == 8
    assert not list(Path("stopped").glob("*.state"))


def test_another_picture_under_a_state_is_refused_and_all_are_on_record(
    cnnvis: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = noise_folder(tmp_path / "many", 6)
    settings = (f"images={folder}", "layer=relu3_1", "channel=0", "batch=1", "name=top", "-q")
    calls = itertools.count()
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "__call__", lambda self: next(calls) >= 4)
        assert cnnvis("patches", *settings).code == 130
    kept = (folder / "0.png").read_bytes()
    Image.new("RGB", (96, 96), "red").save(folder / "0.png")
    refused = cnnvis("patches", *settings)
    assert refused.code == 2
    assert "computed with another picture" in refused.err
    (folder / "0.png").write_bytes(kept)
    ran = cnnvis("patches", *settings)
    assert ran.code == 0, ran.err
    assert len(ran.sidecar["inputs"]) == 6
