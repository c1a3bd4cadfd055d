"""Files of decoders and maskers: what `train kind=decoder` and `kind=masker` write, and what travels with the package."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from cnnvis_cli.engine.generators.decoder import Decoder, DecoderShape
from cnnvis_cli.engine.generators.masker import Masker, MaskerShape
from cnnvis_cli.errors import UserError
from cnnvis_cli.networks.checkpoints import fit_weights, read_weights
from cnnvis_cli.networks.learned import LARGEST_SHAPE, damaged, find_learned, read_card

# By the network whose codes they take.
DECODERS = {"minivgg": "decoder"}
MASKERS = {"minivgg": "masker"}
Kind = TypeVar("Kind", bound=nn.Module)


@dataclass(frozen=True)
class CodeFile(Generic[Kind]):
    """A network that takes codes, with what its file says. `levels`: the layers whose codes these are, shallow to deep."""

    name: str
    network: Kind
    levels: tuple[str, ...]
    card: dict[str, Any]
    sha256: str

    def level(self, layer: str) -> int:
        """The number of the level that is this layer. UserError where it is none."""
        if layer not in self.levels:
            raise UserError(f"{self.name} makes no pictures of {layer}; its levels are {', '.join(self.levels)}.")
        return self.levels.index(layer)


def load_decoder(name: str, model: str, device: torch.device) -> CodeFile[Decoder]:
    """By name, path, or (empty) what is bundled for `model`. Raises UserError where the file holds no decoder."""
    return _load(find_learned("decoder", name, model, DECODERS), "decoder", _decoder, device)


def load_masker(name: str, model: str, device: torch.device) -> CodeFile[Masker]:
    """The same for maskers."""
    return _load(find_learned("masker", name, model, MASKERS), "masker", _masker, device)


def _decoder(shape: Mapping[str, Any]) -> tuple[Decoder, int]:
    lists = {key: tuple(shape[key]) for key in ("channels", "doublings", "rectified")}
    if not all(0 <= number <= LARGEST_SHAPE for number in (*lists["channels"], *lists["doublings"], shape["blocks"])):
        raise ValueError("no shape")
    return Decoder(DecoderShape(**{**shape, **lists})), len(lists["channels"])


def _masker(shape: Mapping[str, Any]) -> tuple[Masker, int]:
    channels = tuple(shape["channels"])
    if not all(0 < number <= LARGEST_SHAPE for number in (*channels, shape["classes"], shape["width"])):
        raise ValueError("no shape")
    return Masker(MaskerShape(**{**shape, "channels": channels})), len(channels)


def _load(
    path: Path, kind: str, build: Callable[[Mapping[str, Any]], tuple[Kind, int]], device: torch.device
) -> CodeFile[Kind]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    card = read_card(path, kind)
    try:
        network, count = build(card["shape"])
        levels = tuple(map(str, card["levels"]))
        if len(levels) != count:
            raise ValueError("no levels")
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError):
        raise damaged(path) from None
    fit_weights(network, read_weights(path), f"the weights {path}", f"the {kind} that its card describes")
    network = network.requires_grad_(False).eval().to(device).to(memory_format=torch.channels_last)
    return CodeFile(path.stem, network, levels, card, digest)
