"""Ctrl-C before a job has begun and after it has ended. Imports next to nothing, to be in force while the rest is loaded."""

from __future__ import annotations

import os
from types import FrameType


def leave(number: int, frame: FrameType | None) -> None:
    """Ends the process at once: there is nothing to save. A KeyboardInterrupt would be swallowed by some imports."""
    os.write(2, b"cnnvis: interrupted\n")
    os._exit(130)
