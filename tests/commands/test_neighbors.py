"""`cnnvis neighbors` as a user runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.tables import rows

Run = Callable[..., Any]


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
