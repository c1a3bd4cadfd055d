"""A dozen of `make kill`'s kills, of commands that are fast."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kill.kills import CASES, HEADER, Tally, campaign, torn


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills are sent to forked processes")
def test_what_was_killed_at_random_moments_ends_as_if_it_had_not_been() -> None:
    fast = {name: CASES[name] for name in ("maximize", "dream", "resynthesis")}
    lines: list[str] = []
    tallies = campaign(fast, 12, 3, lines.append)
    assert lines[0] == HEADER
    assert not any(tally.failed for tally in tallies), "\n".join(lines)
    assert sum(tally.kills for tally in tallies) >= 12
    assert all(tally.identical == tally.trials > 0 for tally in tallies)


def test_a_torn_file_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    (tmp_path / "b.json").write_text("{")
    (tmp_path / ".c.png.x.tmp").touch()  # of a process that was killed: the rerun clears it
    assert [line.split(":")[0] for line in torn(tmp_path)] == ["a.png", "b.json"]
    assert Tally("x", troubles=["torn"]).failed
