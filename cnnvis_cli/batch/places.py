"""Where results lie: a folder, or an address that fsspec knows (s3://bucket/folder). Imports no torch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnvis_cli.errors import RunError, UserError
from cnnvis_cli.files.atomic import make_folder
from cnnvis_cli.jobs.fresh import outdated
from cnnvis_cli.jobs.record import Record, parse_record, read_record


@dataclass(frozen=True)
class Result:
    """A record that was found. `complete`: all files that it names are there, and what it was made of is the same."""

    record: Record
    complete: bool


def is_address(folder: str) -> bool:
    return "://" in folder


def filesystem(folder: str) -> tuple[Any, str]:
    """fsspec's file system of an address and the path in it. Raises UserError that names the remedy."""
    try:
        import fsspec
    except ImportError:
        raise UserError(f"{folder} needs fsspec: pip install 'cnnvis[ray]'") from None
    try:
        return fsspec.core.url_to_fs(folder)
    except (ImportError, ValueError, OSError) as error:
        raise UserError(f"cannot reach {folder}: {error}") from None


def read_result(folder: str, name: str) -> Result | None:
    """What is known of a result, or None where there is none."""
    if not is_address(folder):
        record = read_record(Path(folder) / f"{name}.json")
        return Result(record, outdated(record, Path(folder)) is None) if record else None
    system, path = filesystem(folder)
    try:
        record = parse_record(system.cat_file(f"{path}/{name}.json"))
    except OSError:
        return None
    return Result(record, all(system.exists(f"{path}/{file}") for file in record.files)) if record else None


def check_writable(folders: Sequence[str]) -> None:
    """Raises UserError for a folder that cannot be written to, before any work is lost."""
    for folder in dict.fromkeys(folders):
        if is_address(folder):
            system, path = filesystem(folder)
            try:
                system.makedirs(path, exist_ok=True)
            except OSError as error:
                raise UserError(f"cannot write to {folder}: {error}. Choose another with --out.") from None
        else:
            make_folder(Path(folder))


@contextmanager
def local_copy(folder: str) -> Iterator[tuple[Path, Callable[[Sequence[Path]], None]]]:
    """A folder on this machine that stands for `folder`, and what brings finished files there, in their order."""
    if not is_address(folder):
        yield Path(folder), lambda files: None
        return
    system, path = filesystem(folder)

    def bring(files: Sequence[Path]) -> None:
        try:
            for file in files:
                name = file.relative_to(temporary).as_posix()
                system.makedirs(f"{path}/{name}".rpartition("/")[0], exist_ok=True)
                system.put_file(str(file), f"{path}/{name}")
        except OSError as error:
            raise RunError(f"cannot write to {folder}: {error}") from None

    with tempfile.TemporaryDirectory(prefix="cnnvis-") as temporary:
        yield Path(temporary), bring
