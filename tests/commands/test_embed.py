"""`cnnvis embed` as a user runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

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
    assert scores["silhouette_features"] > 0.3
    again = cnnvis("embed", f"images={collection}", "layer=relu1_1", "thumbnail=16", "perplexity=4", "--out", "again")
    assert rows(again.files[2]) == points


def test_an_atlas_has_a_tile_where_activations_lie(cnnvis: Run, collection: Path) -> None:
    settings = ["layer=relu2_1", "places=6", "cells=3", "steps=3", "arrange=grid", "colors=predicted"]
    ran = cnnvis("embed", f"images={collection}", "atlas=true", *settings)
    assert ran.code == 0, ran.err
    cells = rows(next(path for path in ran.files if path.name.endswith("-atlas.csv")))
    atlas = ran.sidecar["atlas"]
    assert atlas["activations"] == 15 * 6
    assert 1 < len(cells) == atlas["cells"] <= 9
    assert sum(int(cell["members"]) for cell in cells) <= 90
    with Image.open(next(path for path in ran.files if path.name.endswith("-atlas.png"))) as opened:
        page = np.asarray(opened)
    side = page.shape[1] // 3
    filled = {(row, column) for row in range(3) for column in range(3)
              if page[row * side : (row + 1) * side - 40, column * side : (column + 1) * side].mean() < 250}  # fmt: skip
    assert filled == {(int(cell["row"]), int(cell["column"])) for cell in cells}
    assert ran.sidecar["colors"] == "predicted class"


def test_an_atlas_wants_maps(cnnvis: Run, collection: Path) -> None:
    ran = cnnvis("embed", f"images={collection}", "atlas=true", "layer=fc")
    assert ran.code == 2
    assert "needs a layer with maps" in ran.err
    ran = cnnvis("embed", f"images={collection}", "cells=3")
    assert "cells has no effect" in ran.err
