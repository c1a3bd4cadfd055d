"""What was found out about results, kept beside the thumbnails: a second page looks only at what is new."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from cnnvis_cli import __version__
from cnnvis_cli.files.atomic import atomic

NAME = "thumbnails/.known.json"
_FORM = 2  # of what is kept, counted up where it changes


class Known:
    """Items by sidecar, each with the state of the files it was made from."""

    def __init__(self, page: Path) -> None:
        self._path = page.parent / NAME
        self._before: dict[str, Any] = {}
        try:
            kept = json.loads(self._path.read_bytes())
            if kept["form"] == [_FORM, __version__]:
                self._before = dict(kept["items"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            pass  # there is none, or none that serves: all is looked at anew
        self._now: dict[str, Any] = {}

    def get(self, sidecar: Path, page: Path) -> dict[str, Any] | None:
        """The item, where neither its record nor its pictures have changed and its thumbnail is there."""
        kept = self._before.get(str(sidecar.absolute()))
        try:
            if kept is None or kept["state"] != state(sidecar, kept["paths"]):
                return None
            small = kept["small"]
            if small is not None and not (page.parent / small).exists():
                return None
        except (OSError, TypeError, KeyError, ValueError):
            return None
        self._now[str(sidecar.absolute())] = kept
        item: dict[str, Any] = kept["item"]
        return item

    def put(self, sidecar: Path, item: dict[str, Any], paths: list[str], small: str | None) -> None:
        told = {"state": state(sidecar, paths), "paths": paths, "small": small, "item": item}
        self._now[str(sidecar.absolute())] = told

    def write(self) -> None:
        """Only where something is new, or gone."""
        if self._now.keys() == self._before.keys() and all(self._now[key] is self._before[key] for key in self._now):
            return
        self._path.parent.mkdir(exist_ok=True)
        with atomic(self._path) as file:
            file.write(json.dumps({"form": [_FORM, __version__], "items": self._now}).encode())


def state(sidecar: Path, paths: list[str]) -> str:
    """Changes with any of the files."""
    told = [str((stat := Path(path).stat()).st_mtime_ns) + f" {stat.st_size} {path}" for path in (str(sidecar), *paths)]
    return hashlib.sha256("\n".join(told).encode("utf-8", "surrogateescape")).hexdigest()[:32]
