"""Whether a result still is what its record says: the files there and whole, the same pictures read, the same weights.

Imports no torch, so that a kept result answers at once.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.record import Record
from cnnvis_cli.pictures.find import find_pictures

_PNG_BEGINS, _PNG_ENDS = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


def whole(path: Path) -> bool:
    """Whether a file of a result is there and not cut off: of a PNG both ends, of others that they are not empty."""
    try:
        size = path.stat().st_size
        if path.suffix != ".png" or not size:
            return size > 0
        with path.open("rb") as file:
            begins = file.read(len(_PNG_BEGINS))
            file.seek(max(0, size - len(_PNG_ENDS)))
            return begins == _PNG_BEGINS and file.read() == _PNG_ENDS
    except OSError:
        return False


def outdated(record: Record, folder: Path) -> str | None:
    """Why a result no longer holds, in words; None where it does."""
    for name in record.files:
        if not whole(folder / name):
            return f"{name} is {'damaged' if (folder / name).exists() else 'gone'}"
    for model, known in record.networks.items():
        path = known.get("file") if isinstance(known, dict) else None
        if path and _sha256(Path(path)) != known.get("sha256"):
            return f"the weights of {model} in {path} are others now"
    return _changed_pictures(record)


def _changed_pictures(record: Record) -> str | None:
    addresses = [address for address in record.inputs if not address.endswith(" pictures")]
    for address in addresses:
        try:
            found = find_pictures(address)
        except UserError:
            return f"the picture {address} is gone"
        if len(found) != 1 or _sha256(found[0].path) != record.inputs[address]:
            return f"the picture {address} is another one now"
    for place in _places(record.config):
        try:
            now = {source.address for source in find_pictures(place)}
        except UserError:
            continue
        # Only a place whose pictures were read can have got new ones.
        if now & record.inputs.keys() and (new := now - record.inputs.keys()):
            return f"{place} has a picture more, {min(new)}"
    return None


def _places(values: Any) -> Iterator[str]:
    """The folders and globs among a config's values."""
    if isinstance(values, str):
        if values and (Path(values).expanduser().is_dir() or (glob.has_magic(values) and "/" in values)):
            yield values
    elif isinstance(values, dict | list | tuple):
        inside: Iterable[Any] = values.values() if isinstance(values, dict) else values
        for value in inside:
            yield from _places(value)


def _sha256(path: Path) -> str:
    try:
        with path.expanduser().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _whole_sha(path)
    except OSError:
        return ""


def _whole_sha(path: Path) -> str:
    return hashlib.sha256(path.expanduser().read_bytes()).hexdigest()
