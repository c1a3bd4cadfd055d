"""A result is kept while it is what its record says, and made by one process at a time; files of others are left alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnvis_cli.jobs.fresh import whole
from cnnvis_cli.jobs.lock import locked, waited_for
from tests.conftest import Ran

Run = Callable[..., Ran]
FAST = ("method=gradient", "score=false", "size=48")


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (60, 60, 3), dtype=np.uint8)).save(path)


def test_another_picture_at_the_same_path_is_read(cnnvis: Run) -> None:
    picture(Path("a.png"), 0)
    before = cnnvis("saliency", "image=a.png", *FAST).sidecar["inputs"]
    assert cnnvis("saliency", "image=a.png", *FAST).err.count("kept") == 1
    picture(Path("a.png"), 1)
    again = cnnvis("saliency", "image=a.png", *FAST)
    assert "a.png is another one now" in again.err
    assert again.sidecar["inputs"] != before


def test_a_picture_more_or_one_repaired_is_read(cnnvis: Run) -> None:
    for number in range(2):
        picture(Path(f"folder/{number}.png"), number)
    Path("folder/bad.png").write_bytes(b"no picture")
    first = cnnvis("saliency", "image=folder", *FAST)
    assert first.code == 1
    assert list(first.sidecar["skipped"]) == ["folder/bad.png"]
    assert "kept" in cnnvis("saliency", "image=folder", *FAST).err
    picture(Path("folder/bad.png"), 5)
    repaired = cnnvis("saliency", "image=folder", *FAST)
    assert (repaired.code, repaired.sidecar["skipped"]) == (0, {})
    picture(Path("folder/new.png"), 6)
    assert "has a picture more" in cnnvis("saliency", "image=folder", *FAST).err


def test_other_weights_in_the_same_file_are_loaded(cnnvis: Run, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from cnnvis_cli.files.bundled import assets_folder

    state = load_file(assets_folder() / "lenet.safetensors")
    save_file(state, "w.safetensors")
    words = ("filters", "model=lenet", "weights=w.safetensors", "zoom=1")
    before = cnnvis(*words).sidecar["networks"]
    assert "kept" in cnnvis(*words).err
    save_file({key: value * 0.5 for key, value in state.items()}, "w.safetensors")
    again = cnnvis(*words)
    assert "are others now" in again.err
    assert again.sidecar["networks"] != before


@pytest.mark.parametrize("damage", [b"", b"\x89PNG\r\n\x1a\n cut off"])
def test_a_damaged_result_is_no_result(cnnvis: Run, damage: bytes) -> None:
    ran = cnnvis("filters", "model=lenet", "zoom=1")
    before = ran.files[0].read_bytes()
    ran.files[0].write_bytes(damage)
    assert not whole(ran.files[0])
    assert "damaged" in cnnvis("filters", "model=lenet", "zoom=1").err
    assert ran.files[0].read_bytes() == before


def test_files_of_another_result_are_not_overwritten(cnnvis: Run) -> None:
    cnnvis("saliency", *FAST, "name=s", "--out", "out")
    overlay = Path("out/s-overlay.png").read_bytes()
    ran = cnnvis("filters", "name=s-overlay", "--out", "out")
    assert ran.code == 2
    assert "belongs to the result s" in ran.err
    assert Path("out/s-overlay.png").read_bytes() == overlay


def test_what_a_killed_run_left_half_written_is_cleared_but_nothing_else(cnnvis: Run) -> None:
    Path("out").mkdir()
    for name in (".a.png.abcdefgh.tmp", ".a.json.abcdefgh.tmp", ".a-b.png.abcdefgh.tmp", ".ab.png.abcdefgh.tmp"):
        Path("out", name).touch()
    assert cnnvis("filters", "model=lenet", "zoom=1", "name=a", "--out", "out").code == 0
    assert sorted(path.name for path in Path("out").glob(".*")) == [".a-b.png.abcdefgh.tmp", ".ab.png.abcdefgh.tmp"]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    order: list[str] = []

    def wait() -> None:
        with waited_for(tmp_path, "a", order.append, lambda: False):
            order.append("second")

    with locked(tmp_path, "a") as ours:
        assert ours
        with locked(tmp_path, "a") as again:
            assert not again
        thread = threading.Thread(target=wait)
        thread.start()
        while not order:
            time.sleep(0.01)
        order.append("first")
    thread.join()
    assert [*order[1:]] == ["first", "second"]
    assert "process" in order[0]
    assert not list(tmp_path.iterdir())
