"""What the C library does with memory that is freed. A step of the loop frees what the next one needs again."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# glibc's names of its settings (malloc.h), how much freed memory is kept within the block, and where glibc's own adaptive
# limits end.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT, _LARGEST_TRIM, _LARGEST_MMAP = 1 << 30, 64 << 20, 32 << 20


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Within the block up to 1 GiB of freed memory stays with the process; after it glibc's own limits hold again.

    Otherwise glibc hands much of it back in every step and gets it, zeroed page by page, in the next: for squeezenet1_0 at
    224 px that was a quarter of the step. Does nothing where there is no glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        yield
        return
    mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP)
    mallopt(_TRIM_THRESHOLD, _KEPT)
    try:
        yield
    finally:
        mallopt(_TRIM_THRESHOLD, _LARGEST_TRIM)
