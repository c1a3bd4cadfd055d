"""`filters`, `activations`, `patches`, `neighbors` and `embed` as a user runs them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnnvis_cli.config.load import build_config
from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.errors import Interrupted
from cnnvis_cli.jobs.job import Job, Session
from cnnvis_cli.jobs.run import run_job
from cnnvis_cli.pictures import read
from cnnvis_cli.registry import config_class

Run = Callable[..., Any]


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Three classes that differ in colour, and a bright square in each picture at a place of its own."""
    folder, random = tmp_path / "collection", np.random.default_rng(0)
    for label, color in (("red", (150, 20, 20)), ("green", (20, 150, 20)), ("blue", (20, 20, 150))):
        (folder / label).mkdir(parents=True)
        for number in range(5):
            values = np.clip(np.array(color) + random.normal(0, 12, (100, 100, 3)), 0, 255).astype(np.uint8)
            y, x = random.integers(10, 70, 2)
            values[y : y + 16, x : x + 16] = 255
            Image.fromarray(values).save(folder / label / f"{number}.png")
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# filters


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


# activations


def test_activations_are_the_layer_s(cnnvis: Run, minivgg: Network) -> None:
    ran = cnnvis("activations", "image=sample:coffee", "layer=relu3_1", "channel=3,8,5", "raw=true", "mark=2")
    assert ran.code == 0, ran.err
    picture = read.resize_short(read.read(read.sample("coffee")), 96)
    with torch.no_grad():
        maps = activations(minivgg, picture, ["relu3_1"])["relu3_1"][0]
    found = np.load(next(path for path in ran.files if path.suffix == ".npy"))
    np.testing.assert_allclose(found, maps[[3, 8, 5]].numpy(), atol=1e-5)
    peaks = maps.amax((1, 2))
    sidecar = ran.sidecar
    assert sidecar["scores"]["strongest_unit"] == int(peaks.argmax())
    assert sidecar["marked"] == sorted([3, 8, 5], key=lambda unit: -peaks[unit].item())[:2]
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


# patches


def test_patches_hold_what_the_unit_saw(cnnvis: Run, collection: Path, minivgg: Network) -> None:
    """The box that is cut excites the unit as much as the whole picture, whatever lies around it."""
    ran = cnnvis("patches", f"images={collection}", "layer=relu2_2", "channel=4,20", "count=3", "batch=4")
    assert ran.code == 0, ran.err
    found = rows(ran.files[1])
    assert [(row["unit"], row["rank"]) for row in found] == [(u, r) for u in ("4", "20") for r in "123"]
    for row in found:
        square = read.to_square(read.read(read.Source("", Path(row["file"]))), 96, minivgg.preprocessing.resize)
        top, bottom, left, right = (int(row[key]) for key in ("top", "bottom", "left", "right"))
        assert bottom - top <= 14
        around = torch.full_like(square, 0.5)
        around[..., top:bottom, left:right] = square[..., top:bottom, left:right]
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
    assert {row["right"] for row in rows(ran.files[1])} == {"96"}
    assert ran.sidecar["scores"]["receptive_field"] == "whole picture"


# neighbors and embed


def test_neighbors_and_the_index(cnnvis: Run, collection: Path) -> None:
    first = cnnvis("neighbors", f"images={collection}", "layer=relu3_2", "count=3", "rows=2", "index=index")
    assert first.code == 0, first.err
    scores = first.sidecar["scores"]
    assert scores["reused_from_index"] == 0
    assert scores["precision_at_3_pixels"] > 0.9  # the classes differ in colour
    assert scores["precision_by_chance"] == pytest.approx(4 / 14)
    Image.new("RGB", (100, 100), (160, 10, 10)).save(collection / "red" / "new.png")
    (collection / "blue" / "0.png").unlink()
    second = cnnvis("neighbors", f"images={collection}", "layer=relu3_2", "count=3", "index=index", "--out", "second")
    assert second.sidecar["scores"]["reused_from_index"] == 14
    assert second.sidecar["scores"]["pictures"] == 15
    fresh = cnnvis("neighbors", f"images={collection}", "layer=relu3_2", "count=3", "index=fresh", "--out", "third")
    assert rows(fresh.files[1]) == rows(second.files[1])
    other = cnnvis("neighbors", f"images={collection}", "layer=relu2_2", "index=index", "--out", "fourth")
    assert other.sidecar["scores"]["reused_from_index"] == 0


def test_a_query_finds_its_copy_but_not_itself(cnnvis: Run, collection: Path, tmp_path: Path) -> None:
    query = collection / "green" / "1.png"
    ran = cnnvis("neighbors", f"images={collection}", f"query={query}", "count=2")
    assert ran.code == 0, ran.err
    assert all(row["neighbor"] != str(query) for row in rows(ran.files[1]))
    outside = tmp_path / "other.bmp"
    with Image.open(query) as picture:
        picture.save(outside)
    ran = cnnvis("neighbors", f"images={collection}", f"query={outside}", "count=1")
    assert [row["neighbor"] for row in rows(ran.files[1])] == [str(query)] * 2


def test_a_damaged_index_is_made_anew(cnnvis: Run, collection: Path) -> None:
    cnnvis("neighbors", f"images={collection}", "index=index", "layer=relu1_1")
    path = next(Path("index").glob("*.npz"))
    path.write_bytes(path.read_bytes()[:100])
    ran = cnnvis("neighbors", f"images={collection}", "index=index", "layer=relu1_1", "--overwrite")
    assert ran.code == 0
    assert ran.sidecar["scores"]["reused_from_index"] == 0


def test_embed(cnnvis: Run, collection: Path) -> None:
    ran = cnnvis("embed", f"images={collection}", "layer=relu1_1", "thumbnail=16", "perplexity=4")
    assert ran.code == 0, ran.err
    points = rows(ran.files[2])
    assert len(points) == 15
    assert {row["label"] for row in points} == {"red", "green", "blue"}
    scores = ran.sidecar["scores"]
    assert scores["precision_at_5_PCA"] > 0.7
    assert 0.7 < scores["trustworthiness_t-SNE"] <= 1
    again = cnnvis("embed", f"images={collection}", "layer=relu1_1", "thumbnail=16", "perplexity=4", "--out", "again")
    assert rows(again.files[2]) == points


# what all share


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
    job, _ = run_job(command, config, Path("stopped"), Session(torch.device("cpu"), quiet=True))
    table = job.files[1]
    assert rows(table) == rows(Path("whole") / table.name)
    assert (Path("stopped") / job.files[0].name).read_bytes() == (Path("whole") / job.files[0].name).read_bytes()
    if command == "neighbors":
        assert job.scores["reused_from_index"] == 8
    assert not job.state_file.exists()


def test_a_stream_gives_every_picture_once_in_order(cnnvis: Run, collection: Path) -> None:
    settings = {"images": str(collection), "layer": "relu1_1", "channel": "0", "count": 1}
    job = Job("patches", build_config(config_class("patches"), settings), Path("out"), Session(torch.device("cpu"), quiet=True))
    sources = read.find_pictures(str(collection))
    (collection / "blue" / "4.png").write_text("no picture")
    parts = list(job.stream(sources, 32, batch=4))
    assert [len(found) for found, _ in parts] == [4, 4, 4, 2]
    assert [source for found, _ in parts for source in found] == [s for s in sources if s.path != collection / "blue" / "4.png"]
    assert all(squares.shape == (len(found), 3, 32, 32) for found, squares in parts)
    assert list(job.skipped) == [str(collection / "blue" / "4.png")]


def test_layers_have_their_receptive_field(cnnvis: Run) -> None:
    lines = {line.split()[0]: line for line in cnnvis("layers", "minivgg").out.splitlines()}
    assert lines["relu5_2"].endswith("140x140 every 16")
    assert lines["fc"].endswith("whole picture")
