"""The one door to `engine.backend`, which makes the same numbers faster and may be absent."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from torch import Tensor, nn

try:
    from cnnvis_cli.engine.backend import malloc, onednn
except ImportError:
    malloc = onednn = None  # type: ignore[assignment]


class Switch(Protocol):
    """Turns a network's faster arithmetic off and on."""

    on: bool


def accelerate(module: nn.Module) -> Switch | None:
    """Let the plain layers of a frozen module compute faster on the CPU, in place; None where nothing can be done."""
    return None if onednn is None else onednn.accelerate(module)


def packed_functions() -> AbstractContextManager[Any]:
    """A block in which functions of frozen weights compute faster; one for as long as these weights do not change."""
    return nullcontext() if onednn is None else onednn.PackedFunctions()


def product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right.mT of matrices (B, n, k), (B, m, k)."""
    return left @ right.mT if onednn is None else onednn.product(left, right)


def keep_freed_memory() -> bool:
    """Let the process keep memory that is freed; it lasts. False where that is not to be had, or the user chose otherwise."""
    return False if malloc is None else malloc.keep_freed_memory()
