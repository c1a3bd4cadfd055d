"""Whether a result still is what its record says: the files there and whole, the same pictures read, the same weights.

Imports no torch, so that a kept result answers at once.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.record import Record
from cnnvis_cli.pictures.find import find_pictures

_NOT_READ = ("name", "cache")  # of the keys whose values may be files: what a result is called, and what a run writes
_LONGEST = 4096  # characters of a path
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
    return _changed_pictures(record) or _changed_files(record)


def _changed_files(record: Record) -> str | None:
    for name, digest in record.named.items():
        if _sha256(Path(name)) != digest:
            return f"{name} is {'another file now' if Path(name).expanduser().exists() else 'gone'}"
    return None


def named_files(config: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of each file that a config names, and of a module of the user's whose function it names."""
    texts = _texts([value for key, value in config.items() if key not in _NOT_READ])
    paths = dict.fromkeys(path for text in texts if len(text) <= _LONGEST for path in _files_of(text))
    return {str(path): digest for path in paths if (digest := _sha256(path))}


def _files_of(text: str) -> Iterator[Path]:
    module, _, name = text.rpartition(":")
    if name.isidentifier() and all(part.isidentifier() for part in module.split(".")):
        base = Path(*module.split("."))
        candidates = [base.with_suffix(".py"), base / "__init__.py"]
    else:
        candidates = [Path(part) for part in (text, text.partition("@")[2]) if part]
    for path in candidates:
        try:
            if path.expanduser().is_file():
                yield path
        except (OSError, ValueError, RuntimeError):  # a name that no file can have
            continue


def _texts(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict | list | tuple):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _texts(value)


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
    for text in _texts(values):
        if text and (Path(text).expanduser().is_dir() or (glob.has_magic(text) and "/" in text)):
            yield text


def _sha256(path: Path) -> str:
    try:
        with path.expanduser().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _whole_sha(path)
    except OSError:
        return ""


def _whole_sha(path: Path) -> str:
    return hashlib.sha256(path.expanduser().read_bytes()).hexdigest()
