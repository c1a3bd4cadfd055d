"""From a name (and perhaps a file of weights) to a frozen `Network` and the SHA-256 of its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from cnnvis_cli.engine.errors import Refused
from cnnvis_cli.engine.network.network import Network, Preprocessing
from cnnvis_cli.errors import UserError
from cnnvis_cli.files.bundled import assets_folder
from cnnvis_cli.networks import bundled
from cnnvis_cli.networks.factory import from_factory
from cnnvis_cli.networks.libraries import from_timm, from_torchvision, torchvision_names, with_weights
from cnnvis_cli.networks.measured import remember_sizes
from cnnvis_cli.networks.self_description import read_classes
from cnnvis_cli.networks.spec import NetworkSpec, Parts
from cnnvis_cli.networks.user_code import prints_to_stderr

__all__ = ["BUNDLED", "NetworkSpec", "load_network", "model_names"]

BUNDLED: dict[str, Callable[..., nn.Sequential]] = {
    "minivgg": bundled.minivgg,
    "minivgg_robust": bundled.minivgg,
    "lenet": bundled.lenet,
}
# Each the judge of what was made with the other.
TWINS = {"minivgg": "minivgg_robust", "minivgg_robust": "minivgg"}

# What to do about a network that cannot be looked at, by the kind of the reason.
REMEDIES = {
    "channels": "`mean` and `std` of its `preprocessing` say how many: 3 for colour, 1 for grey; no others can be made.",
    "size": 'Say so in the factory: module.preprocessing = {"mean": ..., "std": ..., "size": N}.',
    "inputs": "Give a module whose forward takes the picture alone: put a small one around it.",
    "lazy": "Run it on a picture once in the factory, then load its weights there.",
    "scripted": "Give the nn.Module that it was made from.",
    "gradients": "Remove torch.no_grad() and detach() from its forward.",
    "statistics": "Use track_running_stats=True and weights that have them, or GroupNorm.",
    "numbers": "Train or save it again in float32.",
    "outputs": "output=NAME or number chooses among several.",
    "output": "Its forward must return scores, a row for each picture.",
    "classes": "classes=FILE names them: one per line, or a JSON or YAML list.",
    "failed": "",
}


def model_names() -> list[str]:
    """Bundled networks and torchvision's classifiers."""
    return [*BUNDLED, *torchvision_names()]


def load_network(source: NetworkSpec, device: torch.device) -> tuple[Network, str]:
    """The network and the SHA-256 of its weights. Raises UserError that names the remedy."""
    names = read_classes(source.classes) if source.classes else ()
    with prints_to_stderr():
        parts = _parts(source)
        try:
            network = Network.frozen(
                source.model,
                parts.module,
                parts.preprocessing,
                names or parts.classes,
                device=device,
                channels_last=source.memory_format == "channels_last",
                bf16=source.precision == "bf16",
                copied=False,
                output=source.output,
            )
        except Refused as error:
            raise UserError(_told(error, source, parts)) from error
    twins = [label for label, name in zip(network.classes, names or parts.classes, strict=False) if label != name]
    told = [f"classes of the same name are told apart by their numbers: {', '.join(twins[:2])}"] if twins else []
    ours = source.model in BUNDLED or ":" not in source.model or source.model.startswith("timm:")
    assumed = [parts.assumed] if parts.assumed else []
    if ours:
        remember_sizes(network, parts.digest)
    network.notes = (*parts.notes, *network.notes, *(told if names or not ours else []), *assumed)
    return network, parts.digest


def _told(error: Refused, source: NetworkSpec, parts: Parts) -> str:
    ours = ":" not in source.model or source.model.startswith("timm:")
    remedy = "" if ours and error.kind in ("size", "channels", "inputs", "failed") else REMEDIES[error.kind]
    assumed = f" ({parts.assumed})" if parts.assumed and error.kind in ("size", "channels", "failed") else ""
    return f"model={source.model}: {error.fact}{assumed}. {remedy}".rstrip()


def load_module(source: NetworkSpec) -> tuple[nn.Module, Preprocessing, tuple[str, ...]]:
    """The module as it is, neither frozen nor made faster, for who trains it; what it takes, and its classes."""
    parts = _parts(source)
    return parts.module, parts.preprocessing, parts.classes


def weights_file(model: str, weights: str, digest: str) -> Path | None:
    """The file that a network's weights, of that SHA-256, came from as they lie there; None where they are of no one file."""
    path = Path(weights).expanduser() if weights else assets_folder() / f"{model}.safetensors"
    if weights == "random" or (not weights and model not in BUNDLED) or not path.is_file():
        return None
    return path.absolute() if hashlib.sha256(path.read_bytes()).hexdigest() == digest else None


def _parts(source: NetworkSpec) -> Parts:
    if source.model in BUNDLED:
        return _bundled(source)
    if source.model.startswith("timm:"):
        return from_timm(source)
    if ":" in source.model:
        return from_factory(source)
    return from_torchvision(source, list(BUNDLED))


def bundled_classes(name: str) -> list[str]:
    """The classes of a bundled network, whose weights are not read for it. Raises UserError where its file cannot be read."""
    return list(json.loads(_bundled_card(assets_folder() / f"{name}.safetensors")["classes"]))


def _bundled_card(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata())
    except (OSError, SafetensorError) as error:
        raise UserError(f"the bundled weights {path} cannot be read ({error}). Reinstall cnnvis.") from None


def _bundled(source: NetworkSpec) -> Parts:
    path: Path = assets_folder() / f"{source.model}.safetensors"
    card = _bundled_card(path)
    size = int(card["size"])
    resize = int(card.get("resize", size))
    preprocessing = Preprocessing(tuple(json.loads(card["mean"])), tuple(json.loads(card["std"])), size, resize)
    classes = tuple(json.loads(card["classes"]))
    chosen = replace(source, weights=source.weights or str(path))
    return with_weights(lambda count: BUNDLED[source.model](count or len(classes)), chosen, preprocessing, classes)
