"""What commands that look at a folder of pictures do with one that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Ran


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("saliency", ["method=gradient", "score=false"]),
        ("occlude", ["window=16", "stride=16", "check=0", "score=false"]),
        ("fool", ["attack=fgsm"]),
    ],
)
def test_a_corrupt_picture_in_a_folder_is_named_left_out_and_counted(
    command: str, words: list[str], cnnvis: Callable[..., Ran], tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "c"):
        Image.effect_noise((40, 40), 60).save(folder / f"{name}.png")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:200])
    ran = cnnvis(command, f"image={folder}", "size=32", *words)
    assert ran.code == 1
    assert "b.png" in ran.err
    assert "1 picture that could not be read was left out" in ran.err
    rows = ran.sidecar.get("rows") or ran.sidecar["scores"]["pictures"]
    assert [row["picture"] for row in rows] == ["a", "c"]
    assert list(ran.sidecar["skipped"]) == [str(folder / "b.png")]
    for name in ("a", "c"):
        (folder / f"{name}.png").write_text("no picture")
    ran = cnnvis(command, f"image={folder}", "name=none")
    assert ran.code == 2
    assert "none of the 3 pictures can be read" in ran.err
