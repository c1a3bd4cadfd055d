"""`cnnvis embed` as a user runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.tables import rows

Run = Callable[..., Any]


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
