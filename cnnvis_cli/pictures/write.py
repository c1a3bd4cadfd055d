"""Writing files so that none is ever half there: into a temporary file beside it, then renamed over the name."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from cnnvis_cli.engine.pixels import to_bytes
from cnnvis_cli.errors import UserError
from cnnvis_cli.files.atomic import atomic


def to_image(picture: Tensor) -> Image.Image:
    """8-bit RGB of one picture (3, H, W) or (1, 3, H, W) in [0, 1], rounded to nearest."""
    return Image.fromarray(to_bytes(picture.reshape(picture.shape[-3:])).permute(1, 2, 0).cpu().numpy())


def write_png(path: Path, image: Image.Image, text: Mapping[str, str] | None = None) -> None:
    """`text`: entries embedded in the PNG (settings, so that a picture alone can be repeated)."""
    info = PngInfo()
    for key, value in (text or {}).items():
        info.add_itxt(key, value)
    with atomic(path) as file:
        image.save(file, "PNG", pnginfo=info)


def write_gif(path: Path, frames: Sequence[Image.Image], milliseconds: int = 60) -> None:
    """An endless loop; the last frame stays for a second."""
    durations = [milliseconds] * (len(frames) - 1) + [1000]
    with atomic(path) as file:
        frames[0].save(file, "GIF", save_all=True, append_images=list(frames[1:]), duration=durations, loop=0)


def has_video() -> bool:
    """Whether the video extra is installed."""
    import importlib.util

    return all(importlib.util.find_spec(name) is not None for name in ("imageio", "imageio_ffmpeg"))


def need_video() -> None:
    """Raise UserError where the video extra is missing."""
    if not has_video():
        raise UserError("MP4 needs the video extra: pip install 'cnnvis[video]'. Or use video=gif.")


def write_video(path: Path, frames: Sequence[Image.Image], per_second: int = 16) -> None:
    """An MP4 (H.264) that every player knows: sides are cropped to even numbers. Needs the video extra."""
    need_video()
    import imageio.v2 as imageio

    with tempfile.TemporaryDirectory(prefix=".cnnvis.", dir=path.parent) as folder:
        made = Path(folder) / path.name
        with imageio.get_writer(made, fps=per_second, codec="libx264", macro_block_size=1, quality=8) as opened:
            writer: Any = opened
            for frame in frames:
                pixels = np.asarray(frame)
                writer.append_data(pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2])
        with atomic(path) as file:
            file.write(made.read_bytes())


def write_array(path: Path, values: Tensor | np.ndarray) -> None:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    with atomic(path) as file:
        np.save(file, array, allow_pickle=False)


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    with atomic(path) as file:
        file.write(buffer.getvalue().encode("utf-8", "replace"))


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """A resumable state: tensors and plain values, readable without running code."""
    data = io.BytesIO()
    torch.save(dict(state), data)  # into a file on a full disk it would fail in words of its own
    with atomic(path) as file:
        file.write(data.getbuffer())


def read_state(path: Path) -> dict[str, Any] | None:
    """The state, or None where there is none or it is damaged (the run then starts anew)."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        return None
