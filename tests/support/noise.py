"""Pictures of noise, each different."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def noise_folder(folder: Path, count: int, width: int = 96, height: int = 96) -> Path:
    """A new folder with `count` pictures 0.png, 1.png and so on."""
    folder.mkdir()
    for number in range(count):
        values = np.random.default_rng(number).integers(0, 255, (height, width, 3), np.uint8)
        Image.fromarray(values).save(folder / f"{number}.png")
    return folder
