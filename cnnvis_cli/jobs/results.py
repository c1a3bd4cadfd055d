"""What a job writes: files `NAME*.png ...` in a folder, each known to the record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cnnvis_cli import __version__
from cnnvis_cli.errors import UserError
from cnnvis_cli.files.atomic import atomic, make_folder
from cnnvis_cli.jobs.record import Record, read_record, safe_name
from cnnvis_cli.pictures.read import reload
from cnnvis_cli.pictures.sheet import titled
from cnnvis_cli.pictures.write import to_image, write_array, write_csv, write_gif, write_png, write_video


def path_of(folder: Path, name: str, suffix: str = "", extension: str = ".png") -> Path:
    """`NAME.png` for an empty suffix, else `NAME-SUFFIX.png`."""
    room = 255 - len(f"{name}-{extension}".encode())
    return folder / f"{name}{'-' + safe_name(suffix, room) if suffix else ''}{extension}"


class Results:
    """Saves pictures and tables of one result, names them by its name and a suffix, and lists them in the record."""

    def __init__(
        self, folder: Path, record: Record, settings: Mapping[str, Any], device: torch.device, title: str = ""
    ) -> None:
        """`settings`: embedded in every PNG, so that a picture alone can be repeated. `title`: the line under figures."""
        self.folder, self._record, self._settings, self._device = folder, record, settings, device
        self._title = title

    @property
    def name(self) -> str:
        return self._record.name

    def path(self, suffix: str, extension: str = ".png") -> Path:
        """Where a file of this result lies."""
        return path_of(self.folder, self.name, suffix, extension)

    def _add(self, path: Path) -> Path:
        """Take a file's name for this result. Raises UserError where it belongs to another one: nothing is overwritten."""
        name = path.relative_to(self.folder).as_posix()
        if name not in self._record.files:
            if (owner := self._owner(path)) is not None:
                raise UserError(f"{path} belongs to the result {owner}. Choose another with name=... or --out DIR.")
            # What is of the whole comes first, then the parts.
            parts = sum("/" in other for other in self._record.files)
            self._record.files.insert(len(self._record.files) - (0 if "/" in name else parts), name)
        return path

    def _owner(self, path: Path) -> str | None:
        """The other result that a file is of: its name is the file's, or the file's up to a hyphen."""
        parts = path.stem.split("-")
        for count in range(1, len(parts) + 1):
            name = "-".join(parts[:count])
            other = read_record(self.folder / f"{name}.json") if name != self.name else None
            if other is not None and path.name in other.files:
                return name
        return None

    def save_picture(self, picture: Tensor, suffix: str = "") -> Tensor:
        """Save one picture (3, H, W) or (1, 3, H, W) in [0, 1] as PNG; returns it reloaded, 8 bit, as (1, 3, H, W)."""
        return self._save(to_image(picture), self.path(suffix))

    def save_part(self, picture: Tensor, part: str) -> Tensor:
        """As `save_picture`, one of many pictures: `NAME/PART.png`, in a folder of the result's own."""
        folder = self.folder / self.name
        make_folder(folder)
        return self._save(to_image(picture), folder / f"{safe_name(part, 200)}.png")

    def save_image(self, image: Image.Image, suffix: str = "") -> Tensor:
        """Save a sheet or figure as PNG, with a line under it that says what it shows; returns it reloaded as (1, 3, H, W)."""
        return self._save(titled(image, self._line()) if self._title else image, self.path(suffix))

    def tell(self, words: str) -> None:
        """Add to the line under the figures that are saved from now on."""
        self._title = f"{self._title} · {words}" if self._title else ""

    def _line(self) -> str:
        """The title, and the layers that it does not name."""
        unnamed = [layer for layer in self._record.layers if layer not in self._title]
        return self._title + (f" · {unnamed[0]}" if len(unnamed) == 1 else "")

    def _save(self, image: Image.Image, path: Path) -> Tensor:
        self._add(path)
        write_png(path, image, {"Software": f"cnnvis {__version__}", "cnnvis": json.dumps(self._settings)})
        return reload(path).to(self._device)

    def save_gif(self, frames: Sequence[Image.Image], suffix: str = "", milliseconds: int = 60) -> None:
        write_gif(self._add(self.path(suffix, ".gif")), frames, milliseconds)

    def save_video(self, frames: Sequence[Image.Image], suffix: str = "", rate: int = 16) -> None:
        write_video(self._add(self.path(suffix, ".mp4")), frames, rate)

    def save_bytes(self, data: bytes, extension: str, suffix: str = "") -> None:
        with atomic(self.path(suffix, extension)) as file:
            file.write(data)
        self._add(self.path(suffix, extension))

    def save_array(self, values: Tensor | np.ndarray, suffix: str) -> None:
        write_array(self._add(self.path(suffix, ".npy")), values)

    def save_csv(self, header: Sequence[str], rows: Sequence[Sequence[Any]], suffix: str) -> None:
        write_csv(self._add(self.path(suffix, ".csv")), header, rows)
