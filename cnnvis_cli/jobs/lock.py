"""One process at a time for one result. The system frees the lock of a process that was killed. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: two processes on one result are not kept apart there
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(folder: Path, name: str) -> Iterator[bool]:
    """Whether this process alone may make the result now."""
    if fcntl is None:
        yield True
        return
    path = folder / f".{name[:200]}.lock"
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        if not _still_there(handle, path):  # its owner finished, and removed it, between our two calls
            yield False
            return
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()}".encode())
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


@contextmanager
def waited_for(folder: Path, name: str, say: Callable[[str], None], stop: Callable[[], bool]) -> Iterator[None]:
    """The lock, once it is free; says who holds it meanwhile. Raises KeyboardInterrupt when `stop()` while it waits."""
    said = False
    while True:
        with locked(folder, name) as ours:
            if ours:
                yield
                return
        if not said:
            holder = ""
            with contextlib.suppress(OSError):
                holder = (folder / f".{name[:200]}.lock").read_text()
            say(f"{folder / name}: {holder or 'another process'} is making this result; waiting for it ...")
            said = True
        if stop():
            raise KeyboardInterrupt
        time.sleep(0.2)


def _still_there(handle: int, path: Path) -> bool:
    try:
        return os.fstat(handle).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False
