"""Reading films, with the video extra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnvis_cli.errors import UserError
from cnnvis_cli.pictures.write import need_video

FILMS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")


def frames_of(path: Path) -> tuple[list[Tensor], int]:
    """Frames (1, 3, H, W) in [0, 1] and how many there are in a second. UserError where it cannot be read."""
    if not path.is_file():
        raise UserError(f"no film '{path}'.")
    need_video()
    import imageio.v2 as imageio

    try:
        with imageio.get_reader(path) as opened:
            reader: Any = opened
            rate = round(reader.get_meta_data().get("fps", 16))
            frames = [_tensor(np.asarray(frame)) for frame in reader]
    except (OSError, ValueError, RuntimeError, IndexError) as error:
        raise UserError(f"cannot read the film {path}: {str(error).splitlines()[0][:200]}.") from None
    if not frames:
        raise UserError(f"the film {path} has no frames.")
    return frames, max(1, rate)


def _tensor(frame: np.ndarray) -> Tensor:
    return torch.from_numpy(frame[..., :3].copy()).permute(2, 0, 1)[None].float().div_(255)
