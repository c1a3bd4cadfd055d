"""What tests of several commands share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


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
