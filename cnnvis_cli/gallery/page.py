"""`cnnvis gallery`: one HTML file with style, script and data in it; pictures are linked relative to it."""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image, UnidentifiedImageError

from cnnvis_cli.errors import UserError
from cnnvis_cli.files.atomic import atomic
from cnnvis_cli.gallery.collect import collect
from cnnvis_cli.jobs.progress import track

_SIDE = 384  # pixels of a thumbnail: sharp on a telephone; smaller pictures are shown themselves
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp")


def write_gallery(folder: Path, page: Path, title: str = "", *, quiet: bool = False) -> Path:
    """Write the page (and `thumbnails/` beside it for large pictures). Raises UserError where there is no result."""
    if page.is_dir():
        page = page / "index.html"
    if page.suffix not in (".html", ".htm"):
        raise UserError(f"--out {page}: must be a folder, or a file that ends in .html.")
    data = collect(folder, page)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to the folder {page.parent}: {error.strerror}.") from None
    with track("gallery", len(data["items"]), quiet=quiet) as bar:
        for number, item in enumerate(data["items"]):
            _show(item, page)
            bar.advance(number + 1)
    text = render(data, title or folder.absolute().name)
    with atomic(page) as file:
        file.write(text.encode())
    return page


def _show(item: dict[str, Any], page: Path) -> None:
    """Add `picture` (link), `size` and `thumbnail` of the first picture that can be shown."""
    for path, link in zip(item.pop("paths"), item["files"], strict=True):
        if not path.lower().endswith(_PICTURES):
            continue
        try:
            with Image.open(path) as image:
                item["picture"], item["size"] = link, list(image.size)
                large = max(image.size) > _SIDE * 1.5
                item["thumbnail"] = _thumbnail(image, Path(path), page) if large else link
            return
        except (UnidentifiedImageError, OSError):
            continue


def _thumbnail(image: Image.Image, path: Path, page: Path) -> str:
    """Made once per state of the picture; its link."""
    stat = path.stat()
    told = f"{path.absolute()} {stat.st_mtime_ns} {stat.st_size}"
    small = page.parent / "thumbnails" / f"{hashlib.sha256(told.encode()).hexdigest()[:20]}.webp"
    if not small.exists():
        small.parent.mkdir(exist_ok=True)
        copy = image.convert("RGB")
        copy.thumbnail((_SIDE, _SIDE))
        with atomic(small) as file:
            copy.save(file, "WEBP", quality=86)
    return quote(os.path.relpath(small, page.parent).replace(os.sep, "/"))


def render(data: Mapping[str, Any], title: str) -> str:
    """The page as text. Data can hold any text: it cannot end the script that it lies in."""
    parts = files("cnnvis_cli.gallery")
    text = (parts / "page.html").read_text(encoding="utf-8")
    inside = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    values = {
        "title": html.escape(title),
        "style": (parts / "page.css").read_text(encoding="utf-8"),
        "script": (parts / "page.js").read_text(encoding="utf-8"),
        "data": inside,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: values[mark[1]], text)
