"""Files of decoders: what `train kind=decoder` writes, and what travels with the package."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from cnnvis_cli.engine.generators.decoder import Decoder, DecoderShape
from cnnvis_cli.errors import UserError, did_you_mean
from cnnvis_cli.files.bundled import assets_folder
from cnnvis_cli.networks.checkpoints import fit_weights, read_weights
from cnnvis_cli.networks.trained import card_of

# By the network whose codes they take.
BUNDLED = {"minivgg": "decoder"}
_LARGEST_SHAPE = 65536


@dataclass(frozen=True)
class DecoderFile:
    """A decoder with what its file says. `levels`: the layers whose codes it takes, shallow to deep."""

    name: str
    network: Decoder
    levels: tuple[str, ...]
    card: dict[str, Any]
    sha256: str

    def level(self, layer: str) -> int:
        """The number of the level that is this layer. UserError where it is none."""
        if layer not in self.levels:
            raise UserError(f"{self.name} makes no pictures of {layer}; its levels are {', '.join(self.levels)}.")
        return self.levels.index(layer)


def shape_text(shape: DecoderShape) -> dict[str, Any]:
    return asdict(shape)


def find(name: str, model: str) -> Path:
    """The path of a decoder: of the bundled one for `model` where there is no name."""
    name = name or BUNDLED.get(model, "")
    if not name:
        raise UserError(
            f"there is no bundled decoder for {model}: decoder=FILE, from `cnnvis train kind=decoder model={model}`."
        )
    if name in BUNDLED.values():
        return assets_folder() / f"{name}.safetensors"
    path = Path(name).expanduser()
    if not path.is_file():
        names = list(BUNDLED.values())
        raise UserError(
            f"no decoder '{name}': not a file, nor one of the bundled ({', '.join(names)}).{did_you_mean(name, names)}"
        )
    return path


def load_decoder(name: str, model: str, device: torch.device) -> DecoderFile:
    """By name, path, or (empty) what is bundled for `model`. Raises UserError where the file holds no decoder."""
    path = find(name, model)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    card = card_of(path)
    if card.get("kind") != "decoder":
        what = f"a {card['kind']}" if "kind" in card else "something else"
        raise UserError(f"{path} holds {what}, not a decoder: `cnnvis train kind=decoder` writes such files.")
    try:
        values: dict[str, Any] = {key: json.loads(value) if value[:1] in '[{"' else value for key, value in card.items()}
        shape = values["shape"]
        lists = {key: tuple(shape[key]) for key in ("channels", "doublings", "rectified")}
        if not all(0 <= number <= _LARGEST_SHAPE for number in (*lists["channels"], *lists["doublings"])):
            raise ValueError("no shape")
        network = Decoder(DecoderShape(**shape | lists))
        levels = tuple(map(str, values["levels"]))
        if len(levels) != len(lists["channels"]) or not isinstance(values["encoder"], dict):
            raise ValueError("no levels")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, RuntimeError):
        raise UserError(f"{path} has a damaged card: its shape or its levels make no sense.") from None
    fit_weights(network, read_weights(path), f"the weights {path}", "the decoder that its card describes")
    network = network.requires_grad_(False).eval().to(device).to(memory_format=torch.channels_last)
    return DecoderFile(path.stem, network, levels, values, digest)


def check_encoder(file: DecoderFile, model: str, sha256: str) -> None:
    """UserError where the decoder was trained for another network than that with this hash."""
    known = file.card["encoder"]
    if known.get("sha256") != sha256:
        raise UserError(
            f"{file.name} was trained for {known.get('model')} {str(known.get('sha256'))[:12]}, and {model} is {sha256[:12]}: "
            f"its codes mean something else. Name that network, or train a decoder for this one."
        )
