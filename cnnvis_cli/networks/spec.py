"""What to load, and what was loaded before it is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from cnnvis_cli.engine.network.network import Preprocessing


@dataclass(frozen=True)
class NetworkSpec:
    """What to load and how. `weights`: '' (pretrained), 'random', or a path. `output`: which of several outputs is read.
    `classes`: a file of class names."""

    model: str
    weights: str = ""
    precision: str = "float32"
    memory_format: str = "channels_last"
    offline: bool = False
    trust_code: bool = False
    seed: int = 0
    output: str = ""
    classes: str = ""

    @property
    def weights_path(self) -> Path:
        return Path(self.weights).expanduser()


@dataclass(frozen=True)
class Parts:
    """A module as it came, how its pictures are prepared, the names of its classes (none: numbers), SHA-256 of its weights.

    `notes`: what was made of what it says. `assumed`: what it did not say.
    """

    module: nn.Module
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    digest: str
    notes: tuple[str, ...] = ()
    assumed: str = ""
