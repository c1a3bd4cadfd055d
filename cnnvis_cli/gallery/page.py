"""`cnnvis gallery`: one HTML file with style, script and data in it; pictures are linked relative to it."""

from __future__ import annotations

import hashlib
import html
import json
import multiprocessing
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import repeat
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image, UnidentifiedImageError

from cnnvis_cli.errors import UserError, shortened
from cnnvis_cli.files.atomic import atomic
from cnnvis_cli.gallery.collect import default_values, item_of, sidecars
from cnnvis_cli.gallery.known import Known
from cnnvis_cli.jobs.progress import track

_SIDE = 384  # pixels of a thumbnail: sharp on a telephone; smaller pictures are shown themselves
_WORTH = 200  # results from which on several processes make them
_NAMED = 20  # of those left out, on stderr; the page names all
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp")


def write_gallery(folder: Path, page: Path, title: str = "", *, quiet: bool = False) -> Path:
    """Write the page (and `thumbnails/` beside it). Raises UserError where there is no result.

    What cannot be read or shown is left out, and named on stderr and on the page.
    """
    if page.is_dir() or not (page.suffix or page.exists()):
        page = page / "index.html"
    if page.suffix not in (".html", ".htm"):
        raise UserError(f"--out {page}: must be a folder, or a file that ends in .html.")
    found = sidecars(folder)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to the folder {page.parent}: {error.strerror}.") from None
    known = Known(page)
    items: dict[Path, dict[str, Any]] = {}
    for path in found:
        if (item := known.get(path, page)) is not None:
            items[path] = item
    left: dict[Path, str] = {}
    with track("gallery", len(found), quiet=quiet) as bar:
        for made in _shown([path for path in found if path not in items], page):
            if made.item is not None:
                items[made.path] = made.item
                if not made.trouble:
                    known.put(made.path, made.item, made.paths, made.small)
            if made.trouble:
                left[made.path] = made.trouble
            bar.advance(len(items))
    if not items and not left:
        raise UserError(f"{folder} holds no results (a picture with its .json).")
    ordered = [_thinner(items[path], len(items)) for path in found if path in items]
    defaults = {command: default_values(command) for command in sorted({item["command"] for item in ordered})}
    told = [[os.path.relpath(path, folder), reason] for path, reason in left.items()]
    text = render({"defaults": defaults, "items": ordered, "left": told}, title or folder.absolute().name)
    with atomic(page) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
    known.write()
    for name, reason in told[:_NAMED]:
        print(f"cnnvis: warning: {name}: {reason}", file=sys.stderr)
    if told:
        print(f"cnnvis: warning: {len(told)} of {len(found)} results could not be shown whole.", file=sys.stderr)
    return page


@dataclass(frozen=True)
class Shown:
    """A sidecar with its item (None of what is no result), the files it rests on, and what went wrong."""

    path: Path
    item: dict[str, Any] | None = None
    paths: list[str] = field(default_factory=list)
    small: str | None = None
    trouble: str = ""


def _shown(paths: Sequence[Path], page: Path) -> Iterator[Shown]:
    """Items with their thumbnails, in as many processes as there are processors where that is worth it."""
    workers = min(os.cpu_count() or 1, 8)
    if len(paths) < _WORTH or workers == 1:
        yield from (_show(path, page) for path in paths)
        return
    done: set[Path] = set()
    try:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            for made in pool.map(_show, paths, repeat(page), chunksize=32):
                done.add(made.path)
                yield made
    except BrokenProcessPool:  # one picture took a process with it: the rest one by one, each on its own
        for path in [path for path in paths if path not in done]:
            yield _alone(path, page)


def _alone(path: Path, page: Path) -> Shown:
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(_show, path, page).result()
    except BrokenProcessPool:
        return Shown(path, trouble="the process that read it was killed, perhaps for its memory")


def _show(path: Path, page: Path) -> Shown:
    """The item of a sidecar, with `picture` (link), `size` and `thumbnail` of the first picture that can be shown."""
    item = item_of(path, page)
    if not isinstance(item, dict):
        return Shown(path, trouble=item or "")
    small, trouble, paths = None, "", item.pop("paths")
    for file, link in zip(paths, item["files"], strict=True):
        if not file.lower().endswith(_PICTURES):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(file) as image:
                    large = max(image.size) > _SIDE * 1.5
                    small = _thumbnail(image, Path(file), page) if large else None
                    item |= {"picture": link, "size": list(image.size), "thumbnail": quote(small) if small else link}
            trouble = ""
            break
        except UnidentifiedImageError:
            trouble = f"{Path(file).name} is no picture"
        except Exception as error:  # a damaged or huge picture: Pillow has many ways to say so
            trouble = shortened(f"{Path(file).name}: {error}", 200)
    return Shown(path, item, paths, small, trouble)


def _thumbnail(image: Image.Image, path: Path, page: Path) -> str:
    """Made once per state of the picture; where it is, from the page."""
    stat = path.stat()
    told = os.fsencode(f"{path.absolute()} {stat.st_mtime_ns} {stat.st_size}")
    small = page.parent / "thumbnails" / f"{hashlib.sha256(told).hexdigest()[:20]}.jpg"
    if not small.exists():
        small.parent.mkdir(exist_ok=True)
        image.draft("RGB", (_SIDE, _SIDE))
        copy = image.convert("RGB")
        copy.thumbnail((_SIDE, _SIDE))
        with atomic(small) as file:
            copy.save(file, "JPEG", quality=88, subsampling=0)  # WebP: a third less bytes, ten times the time
    return os.path.relpath(small, page.parent).replace(os.sep, "/")


def _thinner(item: dict[str, Any], count: int) -> dict[str, Any]:
    """With fewer points of its traces where there are thousands of results: the page stays small enough for a telephone."""
    step = 1 if count <= 1000 else 2 if count <= 3000 else 4
    return item if step == 1 else item | {"traces": [[*line[:-1:step], line[-1]] for line in item["traces"]]}


def render(data: Mapping[str, Any], title: str) -> str:
    """The page as text. Data can hold any text: it cannot end the script that it lies in."""
    parts = files("cnnvis_cli.gallery")
    text = (parts / "page.html").read_text(encoding="utf-8")
    inside = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    values = {
        "title": html.escape(title),
        "style": (parts / "page.css").read_text(encoding="utf-8"),
        "script": "\n".join((parts / name).read_text(encoding="utf-8") for name in ("results.js", "page.js")),
        "data": inside,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: values[mark[1]], text)
