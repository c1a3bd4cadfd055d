"""Files and folders as such: whole or not at all. Imports no torch, so that listing and planning start at once."""

from __future__ import annotations

import errno
import glob
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cnnvis_cli.errors import RunError, UserError

_LOSSY = (".jpg", ".jpeg", ".webp", ".gif", ".avif", ".heic")


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that becomes `path` when the block ends well, and vanishes otherwise."""
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{_start(path.name)}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full. Free some space and run the same command again" if full else error.strerror or str(error)
        raise RunError(f"cannot write {path}: {reason}.") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _start(name: str) -> str:
    """As much of a file's name as leaves room for a temporary one beside it."""
    return os.fsdecode(os.fsencode(name)[:200]) if len(os.fsencode(name)) > 200 else name


def clear(path: Path) -> None:
    """Remove the file, if there is one, and what a process that was killed while it wrote that file left beside it."""
    path.unlink(missing_ok=True)
    clear_halves(path)


def clear_halves(path: Path) -> None:
    """Remove what a process that was killed while it wrote this very file left beside it."""
    # Eight letters are what `tempfile` puts in: with a plain * the file of `a.png` would be taken for that of `a`.
    for half in path.parent.glob(f".{glob.escape(_start(path.name))}.{'[a-z0-9_]' * 8}.tmp"):
        half.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def local_folder(path: Path) -> Path:
    """The folder as given, `~` being the user's own. Raises UserError for an address of another machine."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        raise UserError(
            f"--out {path.as_posix().replace(':/', '://', 1)}: a single command saves in a folder of this machine; "
            "`cnnvis run` takes addresses."
        )
    try:
        return path.expanduser()
    except RuntimeError:
        raise UserError(f"--out {path}: there is no such user.") from None


def make_folder(path: Path) -> None:
    """Make sure that files can be written there. Raises UserError before any work is lost."""
    if path.suffix.lower() in _LOSSY and not path.is_dir():
        raise UserError(
            f"--out {path} is no folder. Pictures are saved as PNG in a folder: {path.suffix} would change the very values "
            "that are measured, and undo adversarial pictures."
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".cnnvis.", dir=path):
            pass
    except OSError as error:
        raise UserError(f"cannot write to the folder {path}: {error.strerror or error}. Choose another with --out.") from None
