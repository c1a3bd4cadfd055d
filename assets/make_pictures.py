"""Bring the results of `configs/jobs/readme.yaml` into the README: `make pictures`.

    python assets/make_pictures.py RUNS assets/readme

Takes the picture named after each job (its `-compare` figure where it has one) and reduces it to 256 colours.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

WIDTH = 800  # what a README shows at most


def main(runs: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for sidecar in sorted(runs.glob("*/*.json")):
        compare = sidecar.with_name(f"{sidecar.stem}-compare.png")
        with Image.open(compare if compare.exists() else sidecar.with_suffix(".png")) as picture:
            small = picture.convert("RGB")
        if small.width > WIDTH:
            small = small.resize((WIDTH, round(small.height * WIDTH / small.width)), Image.Resampling.LANCZOS)
        path = target / f"{sidecar.stem}.png"
        small.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
        print(path, path.stat().st_size // 1024, "KB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
