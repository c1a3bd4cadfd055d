"""Bring the results of `configs/jobs/readme.yaml` into the README: `make pictures`.

    python assets/make_pictures.py RUNS assets/readme

Takes the picture named after each job, or its `-compare` or `-grid` figure. `nine.jpg` has one picture of each command.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

WIDTH = 1000  # what a README shows at most
QUALITY = 90
CELL, LINE = (400, 300), 34  # pixels: a picture of nine, and the line below it
# What stands for each command: the job, and which of its files.
NINE = {
    "maximize": ("top", ".png"),
    "saliency": ("saliency", "-colors.png"),
    "occlude": ("occlude", "-overlay.png"),
    "invert": ("inversion_robust", ".png"),
    "dream": ("dream", ".png"),
    "style": ("style", ".png"),
    "texture": ("texture", ".png"),
    "fool": ("fool", "-compare.png"),
    "evolve": ("evolve", ".png"),
}


def main(runs: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for sidecar in sorted(runs.glob("*/*.json")):
        figures = [sidecar.with_name(f"{sidecar.stem}-{kind}.png") for kind in ("compare", "grid")]
        with Image.open(next((path for path in figures if path.exists()), sidecar.with_suffix(".png"))) as picture:
            small = picture.convert("RGB")
        if small.width > WIDTH:
            small = small.resize((WIDTH, round(small.height * WIDTH / small.width)), Image.Resampling.LANCZOS)
        save(small, target / f"{sidecar.stem}.jpg")
    save(nine(runs), target / "nine.jpg")


def save(picture: Image.Image, path: Path) -> None:
    picture.save(path, quality=QUALITY, subsampling=0)
    print(path, path.stat().st_size // 1024, "KB")


def nine(runs: Path) -> Image.Image:
    """One picture of each command, named below."""
    width, height = CELL
    page = Image.new("RGB", (3 * width, 3 * (height + LINE)), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=20)
    for number, (command, (job, suffix)) in enumerate(NINE.items()):
        left, top = number % 3 * width, number // 3 * (height + LINE)
        with Image.open(runs / command / f"{job}{suffix}") as picture:
            shown = picture.convert("RGB")
        tiles = json.loads((runs / command / f"{job}.json").read_text()).get("tiles")
        if command == "maximize" and tiles:
            shown = shown.crop(tiles[0])
        scale = min((width - 12) / shown.width, (height - 8) / shown.height)
        way = Image.Resampling.LANCZOS if scale < 1.5 else Image.Resampling.BICUBIC
        shown = shown.resize((round(shown.width * scale), round(shown.height * scale)), way)
        page.paste(shown, (left + (width - shown.width) // 2, top + 4 + (height - 8 - shown.height) // 2))
        pen.text((left + width / 2, top + height + LINE / 2 - 4), f"cnnvis {command}", (40, 40, 40), font, anchor="mm")
    return page


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
