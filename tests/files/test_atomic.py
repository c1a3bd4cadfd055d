"""Files are whole or not there, and nothing is left of those that were not."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest
import torch

from cnnvis_cli.errors import RunError, UserError
from cnnvis_cli.files.atomic import atomic, clear, clear_halves, local_folder
from cnnvis_cli.pictures.write import read_state, write_state


def test_a_file_that_fails_half_way_leaves_the_old_one_and_no_half(tmp_path: Path) -> None:
    path = tmp_path / "x.state"
    path.write_text("old")

    def write_half() -> None:
        with atomic(path) as file:
            file.write(b"new")
            raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_goes_with_the_file_and_its_neighbours_stay(tmp_path: Path) -> None:
    path = tmp_path / "x[1].state"
    kept = [tmp_path / name for name in ("x[1].png", ".x1.state.abcdefgh.tmp", ".x[1].png.abcdefgh.tmp", "x.state")]
    for one in [path, tmp_path / ".x[1].state.abcdefgh.tmp", *kept]:
        one.touch()
    clear(path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    clear(path)


def test_what_another_result_is_writing_is_left_alone(tmp_path: Path) -> None:
    theirs = [tmp_path / name for name in (".a.png.b.png.abcdefgh.tmp", ".a-b.png.abcdefgh.tmp")]
    ours = tmp_path / ".a.png.abcdefgh.tmp"
    for path in (*theirs, ours):
        path.touch()
    clear_halves(tmp_path / "a.png")
    assert not ours.exists()
    assert all(path.exists() for path in theirs)


def test_a_folder_is_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_folder(Path("~/x")) == tmp_path / "x"
    with pytest.raises(UserError, match="s3://bucket/x"):
        local_folder(Path("s3://bucket/x"))


def test_a_state_that_finds_no_room_leaves_the_one_before(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: a line that says so, and the old state is whole."""
    path = tmp_path / "x.state"
    write_state(path, {"step": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        with pytest.raises(RunError, match="cannot write"):
            write_state(path, {"step": 2, "weights": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert read_state(path) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["x.state"]
