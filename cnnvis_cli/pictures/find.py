"""From what a user names - files, globs, folders, samples - to the list of pictures, in a fixed order."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from cnnvis_cli.errors import UserError, did_you_mean
from cnnvis_cli.pictures.samples import PAINTINGS, SAMPLES, PictureFile, find_samples, printable

SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("png", "jpg", "jpeg", "jpe", "jfif", "mpo", "webp", "bmp", "dib", "gif", "tif", "tiff", "ppm", "pgm", "pbm", "pnm"),
        *("tga", "psd", "avif", "avifs", "jp2", "j2k", "jpx", "jpf", "heic", "heif", "hif"),
    )
)
# Pictures that Pillow cannot read: they are found, so that they are named and counted among those left out.
UNREADABLE = frozenset({".svg", ".jxl", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".eps", ".pdf"})

_NEAR = 10_000  # names among which a mistyped one is looked for


def find_pictures(what: str | Iterable[str]) -> list[PictureFile]:
    """Files, globs, folders (searched in depth) and `sample:NAME` (`sample:*`: all), in a fixed order.

    What exists as it stands is that, whatever marks its name holds. Hidden files and folders are passed over; folders that
    are links are followed, each once. Raises UserError where there is none.
    """
    if not isinstance(what, str):
        return [source for one in what for source in find_pictures(one)]
    if what.startswith("sample:") and not os.path.lexists(what):
        return find_samples(what.removeprefix("sample:"))
    path = Path(what) if os.path.lexists(what) else Path(what).expanduser()
    shown = printable(what)
    if path.is_dir():
        if not (found := list(_in_folder(path))):
            raise UserError(f"the folder {shown} holds no pictures ({' '.join(sorted(SUFFIXES))}).")
        return found
    if path.is_file():
        return [_source(path)]
    if any(mark in what for mark in "*?["):
        if found := list(_matching(str(path))):
            return found
        raise UserError(f"no picture matches '{shown}'.")
    if what in SAMPLES or what in PAINTINGS:
        raise UserError(f"no picture '{what}'. Did you mean 'sample:{what}'?")
    if near := did_you_mean(path.name, _beside(path)):
        raise UserError(f"no picture '{shown}'.{near}")
    raise UserError(f"no picture '{shown}': not a file, folder or glob, nor sample:NAME ({', '.join(list(SAMPLES)[:4])} ...).")


def _beside(path: Path) -> list[str]:
    """The names of the pictures and folders that lie where this one was looked for."""
    try:
        with os.scandir(path.parent) as entries:
            names = [Path(entry.name) for entry in islice(entries, _NEAR)]
    except OSError:
        return []
    return [printable(str(name)) for name in names if not name.suffix or name.suffix.lower() in SUFFIXES]


def find_picture(what: str) -> PictureFile:
    """Exactly one picture. Raises UserError where `what` names several."""
    found = find_pictures(what)
    if len(found) > 1:
        raise UserError(f"'{printable(what)}' names {len(found)} pictures; one is wanted here.")
    return found[0]


def _source(path: Path) -> PictureFile:
    return PictureFile(printable(path.stem), path)


def _is_picture(path: Path) -> bool:
    there = path.is_file() or (path.is_symlink() and not path.exists())  # a broken link is named when it is read
    return there and path.suffix.lower() in SUFFIXES | UNREADABLE


def _in_folder(root: Path) -> Iterator[PictureFile]:
    seen: set[str] = set()
    found: list[Path] = []
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder that was walked already, or to one above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        found += [Path(folder, name) for name in files if not name.startswith(".")]
    yield from map(_source, sorted(path for path in found if _is_picture(path)))


def _matching(pattern: str) -> Iterator[PictureFile]:
    # Path.glob would take hidden ones too.
    for path in map(Path, sorted(glob.glob(pattern, recursive=True))):  # noqa: PTH207
        if "__MACOSX" in path.parts:
            continue
        if path.is_dir() and "**" not in pattern:
            yield from _in_folder(path)
        elif _is_picture(path):
            yield _source(path)
