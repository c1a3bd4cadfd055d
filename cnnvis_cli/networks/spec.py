"""What to load, and what was loaded before it is measured."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import nn

from cnnvis_cli.engine.network.network import Preprocessing
from cnnvis_cli.errors import UserError

_MOST_SIDE = 8192  # pixels


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


@dataclass(frozen=True)
class Described:
    """What a classifier's file says of itself, where `cnnvis train` wrote it."""

    architecture: str
    preprocessing: Preprocessing
    classes: tuple[str, ...]


def card_of(path: Path) -> dict[str, str]:
    """The metadata of a file of weights. Raises UserError where it is none."""
    if not path.is_file():
        raise UserError(f"no file '{path}'.")
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except Exception as error:  # damaged headers end in errors of many kinds
        raise UserError(f"{path} is not a .safetensors file that can be read: {str(error)[:200]}.") from None


def described(path: Path) -> Described | None:
    """What a file of weights says of itself; None where it is no classifier's that `train` wrote. UserError where it makes no
    sense."""
    card = card_of(path)
    if not {"architecture", "classes", "mean", "std", "size"} <= card.keys():
        return None
    try:
        size, resize = (int(card.get(key, card["size"])) for key in ("size", "resize"))
        mean, std = (tuple(map(float, json.loads(card[key]))) for key in ("mean", "std"))
        classes = tuple(map(str, json.loads(card["classes"])))
        right = 1 <= size <= resize <= _MOST_SIDE and len(mean) == len(std) in (1, 3) and min(std) > 0 and bool(classes)
        right = right and all(map(math.isfinite, (*mean, *std)))
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        right = False
    if not right:
        raise UserError(f"{path} has a damaged card: its size, mean, std or classes make no sense.")
    return Described(card["architecture"], Preprocessing(mean, std, size, resize), classes)
