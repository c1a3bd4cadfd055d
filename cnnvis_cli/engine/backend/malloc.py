"""What the C library does with memory that is freed. A step of the loop frees what the next one needs again."""

from __future__ import annotations

import ctypes
import os
import sys

# glibc's names of its settings (malloc.h), how much freed memory is kept, and where glibc's own adaptive limit of large blocks
# ends.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT, _LARGEST_MMAP = 1 << 30, 32 << 20


def keep_freed_memory() -> bool:
    """From now on up to 1 GiB of freed memory stays with the process: a policy of the process that cannot be taken back.

    Otherwise glibc hands much of it back in every step and gets it, zeroed page by page, in the next: for squeezenet1_0 at
    224 px that was a quarter of the step. Does nothing (False) where there is no glibc, or where the user has set a policy of
    their own by MALLOC_* or GLIBC_TUNABLES.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))
