"""Write scikit-learn's 1,797 handwritten digits as pictures: `train` and `test`, a folder for each digit in each.

    python assets/make_digits.py data/digits

White on black, 8 x 8 px resized to 28 px; a fifth, stratified by digit, is for testing. What `train/lenet` learns from.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SIZE = 28


def main(root: Path) -> None:
    digits = load_digits()
    train, test = train_test_split(np.arange(len(digits.target)), test_size=0.2, stratify=digits.target, random_state=0)
    for part, rows in (("train", train), ("test", test)):
        for row in rows:
            folder = root / part / str(digits.target[row])
            folder.mkdir(parents=True, exist_ok=True)
            values = (digits.images[row] / 16 * 255).round().astype(np.uint8)
            Image.fromarray(values).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(folder / f"{row:04d}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data/digits"))
