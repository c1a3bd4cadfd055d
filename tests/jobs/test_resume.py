"""The one store of an interrupted run: nothing in it is lost to another's saving, nothing strange is taken up or destroyed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.resume import Resume


def test_all_values_are_kept_together(tmp_path: Path) -> None:
    first = Resume(tmp_path / "a.state", "hash")
    first.keep("done loop", [1])
    first.save()
    first.keep("own", torch.ones(2))
    first.rests_on("net@", "digest")
    first.save()
    second = Resume(tmp_path / "a.state", "hash")
    assert second.load() is None
    assert second.get("done loop") == [1]
    assert second.get("own").tolist() == [1, 1]
    with pytest.raises(UserError, match="other weights of net"):
        second.rests_on("net@", "another")


@pytest.mark.parametrize("damage", ["bytes", "config"])
def test_a_state_that_cannot_serve_is_said_and_kept_aside(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.state"
    Resume(path, "hash").save()
    if damage == "bytes":
        path.write_bytes(path.read_bytes()[:50])
    before = path.read_bytes()
    resume = Resume(path, "hash" if damage == "bytes" else "another")
    said = resume.load()
    assert said is not None
    assert "a.state.bad" in said
    assert not path.exists()
    assert (tmp_path / "a.state.bad").read_bytes() == before
    assert resume.values == {}
