"""Files of stylizers: what `train kind=stylizer` writes, what travels with the package, and weights of pytorch/examples."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from cnnvis_cli.engine.generators.fast_neural_style import FastNeuralStyle
from cnnvis_cli.engine.generators.stylizer import Stylizer, StylizerShape
from cnnvis_cli.errors import UserError, did_you_mean
from cnnvis_cli.files.bundled import assets_folder
from cnnvis_cli.networks.checkpoints import fit_weights, read_weights
from cnnvis_cli.networks.spec import card_of
from cnnvis_cli.pictures.read import to_tensor
from cnnvis_cli.pictures.write import to_image

BUNDLED = ("paintings", "painter")
_THUMBNAIL = 320  # long side in pixels
_LARGEST_SHAPE = 4096  # styles, channels, blocks: no stylizer comes near


@dataclass(frozen=True)
class PaintedStyle:
    """A style of a stylizer: its name, the SHA-256 of the picture it was learned from, and that picture, small (WebP)."""

    name: str
    sha256: str
    thumbnail: bytes

    @classmethod
    def of(cls, name: str, picture: Tensor, sha256: str) -> PaintedStyle:
        image = to_image(picture)
        image.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=80, method=6)
        return cls(name, sha256, buffer.getvalue())

    def picture(self) -> Tensor:
        """(1, 3, H, W) in [0, 1], small."""
        return to_tensor(Image.open(io.BytesIO(self.thumbnail)).convert("RGB"))

    def as_text(self) -> dict[str, str]:
        return {"name": self.name, "sha256": self.sha256, "thumbnail": base64.b64encode(self.thumbnail).decode()}

    @classmethod
    def from_text(cls, values: dict[str, str]) -> PaintedStyle:
        return cls(values["name"], values["sha256"], base64.b64decode(values["thumbnail"]))


@dataclass(frozen=True)
class StylizerFile:
    """A stylizer with what its file says. `card`: empty for foreign weights, which know one style without a name."""

    name: str
    network: nn.Module
    styles: tuple[PaintedStyle, ...]
    card: dict[str, Any]
    sha256: str

    def style_number(self, name: str) -> int:
        """Which style is called so (the path or sample name of its picture will do). UserError with near names."""
        names = [style.name for style in self.styles]
        short = name.removeprefix("sample:").rsplit("/", 1)[-1].rsplit(".", 1)[0]
        for wanted in (name, short):
            if wanted in names:
                return names.index(wanted)
        if not names:
            raise UserError(f"{self.name} has one style, without a name: leave style= away.")
        raise UserError(f"{self.name} knows no style '{name}'.{did_you_mean(short, names)} Its styles: {', '.join(names)}.")


def shape_text(shape: StylizerShape) -> dict[str, Any]:
    return asdict(shape)


def find(name: str) -> Path:
    """The path of a bundled stylizer or of a file."""
    if name in BUNDLED:
        return assets_folder() / f"{name}.safetensors"
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(
            f"no stylizer '{name}': not a file, nor one of the bundled ({', '.join(BUNDLED)}).{did_you_mean(name, BUNDLED)}"
        )
    return path


def load_stylizer(name: str, device: torch.device) -> StylizerFile:
    """By bundled name or path. Raises UserError where the file holds no stylizer."""
    path = find(name)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if path.suffix != ".safetensors":
        return _foreign(path, device, digest)
    card = card_of(path)
    if card.get("kind") != "stylizer":
        what = f"a {card['kind']}" if "kind" in card else "something else"
        raise UserError(f"{path} holds {what}, not a stylizer: `cnnvis train kind=stylizer` writes such files.")
    try:
        values: dict[str, Any] = {key: json.loads(value) if value[:1] in '[{"' else value for key, value in card.items()}
        shape = StylizerShape(**values["shape"])
        numbers = (shape.styles, shape.width, shape.blocks)
        if not all(isinstance(number, int) and 0 <= number <= _LARGEST_SHAPE for number in numbers):
            raise ValueError("no shape")
        network = Stylizer(shape)
        styles = tuple(PaintedStyle.from_text(one) for one in values["styles"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, RuntimeError):
        raise UserError(f"{path} has a damaged card: its shape or its styles make no sense.") from None
    fit_weights(network, read_weights(path), f"the weights {path}", "the stylizer that its card describes")
    network = network.requires_grad_(False).eval().to(device).to(memory_format=torch.channels_last)
    return StylizerFile(path.stem, network, styles, values, digest)


def _foreign(path: Path, device: torch.device, digest: str) -> StylizerFile:
    """pytorch/examples' fast_neural_style, by its keys. Running statistics of old files mean nothing there and are dropped."""
    state = read_weights(path)
    kept = {
        key: value for key, value in state.items() if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))
    }
    network = FastNeuralStyle()
    if "conv1.conv2d.weight" not in kept:
        raise UserError(f"{path} holds no stylizer: neither one of `cnnvis train` nor of pytorch/examples' fast_neural_style.")
    fit_weights(network, kept, f"the weights {path}", "pytorch/examples' fast_neural_style")
    card: dict[str, Any] = {"dropped": len(state) - len(kept)}
    return StylizerFile(path.stem, network.requires_grad_(False).eval().to(device), (), card, digest)
