"""What can be known to be wrong before any work: pictures and files that are not there; with the network, layers and classes.

The first half imports no torch, so that such a mistake is told at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnvis_cli.config.base import CommandConfig, NetworkConfig
from cnnvis_cli.errors import UserError
from cnnvis_cli.pictures.find import SUFFIXES, find_pictures

if TYPE_CHECKING:
    from cnnvis_cli.engine.network.network import Network

# Keys whose values are pictures, and words that are none; keys that may be pictures, when they are written as one.
_PICTURES = ("image", "images", "content", "exemplar", "guide", "mean", "labelled", "query")
_NO_PICTURE = ("noise",)
_PERHAPS = ("start", "style", "masks", "pictures")
_FILES = ("weights", "classes", "code", "labels")
_LAYERS = ("layer", "layers", "style_layers", "content_layers", "following", "diversity_layer")
_GROUPS = ("all", "blocks")
_CLASSES = {"target": ("predicted", "least-likely", "random"), "label": ("folder", "file")}


def check_files(config: CommandConfig) -> None:
    """Raises UserError for pictures and other files that a config names and that are not there. Imports no torch."""
    for key in _PICTURES:
        for what in _values(config, key):
            if what not in _NO_PICTURE:
                find_pictures(what)
    for key in _PERHAPS:
        for what in _values(config, key):
            if what.startswith("sample:") or Path(what).suffix.lower() in SUFFIXES:
                find_pictures(what)
    for key in _FILES:
        for what in _values(config, key):
            path = Path(what).expanduser()
            if path.suffix and ("/" in what or path.suffix.lower() in (".pth", ".pt", ".safetensors")) and not path.exists():
                raise UserError(f"no {key} file '{what}'.")


def check_device(name: str) -> None:
    """Raises UserError for what cannot be a device. Imports no torch: whether this machine has it is seen later."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise UserError(f"no device '{name}'. Devices: auto, cpu, cuda, cuda:1, mps.")


def _values(config: CommandConfig, key: str) -> Iterable[str]:
    value: Any = getattr(config, key, None)
    return [value] if isinstance(value, str) and value else value if isinstance(value, list | tuple) else ()


def names_network_parts(config: CommandConfig) -> bool:
    """Whether a config names layers or classes, or another network, that are not the defaults, which are there."""
    keys = (*_LAYERS, *_CLASSES, "objective", "model", "weights", "output", "classes", "size")
    fields = type(config).model_fields
    return isinstance(config, NetworkConfig) and any(k in fields and getattr(config, k) != fields[k].default for k in keys)


def check_network(config: NetworkConfig, network: Network) -> None:
    """Raises UserError for layers, classes and objectives that a network does not have."""
    from cnnvis_cli.engine.optim.objective_syntax import KINDS, parse_objectives

    for key in _LAYERS:
        for name in _values(config, key):
            if name not in _GROUPS:
                network.layer(name)
    for objective in _values(config, "objective"):
        default = type(config).model_fields["objective"].default
        if objective != default and "direction:" not in objective:
            parse_objectives(objective, network)
    for key, words in _CLASSES.items():
        for name in _values(config, key):
            if name in words:
                continue
            if name.partition(":")[0] in KINDS and ":" in name and name not in network.classes:
                parse_objectives(name, network)
            else:
                network.class_index(name.strip("\"'"))
    size = getattr(config, "size", None)
    whole = hasattr(config, "image") and not hasattr(config, "objective") and not hasattr(config, "layers")
    if size and whole and network.fixed_size:  # an inner layer's pictures may have any size
        network.fitted(size, size, size)


def check_all(config: CommandConfig, device: str, **flags: bool) -> None:
    """Everything above. The network is loaded only where the config names something of it, and never downloaded."""
    check_files(config)
    check_device(device)
    if device not in ("auto", "cpu"):
        from cnnvis_cli.engine.devices import select_device

        select_device(device)
    if isinstance(config, NetworkConfig) and names_network_parts(config):
        from cnnvis_cli.jobs.session import make_session
        from cnnvis_cli.networks.load import BUNDLED

        theirs = config.model.startswith("timm:") or ":" not in config.model
        downloads = theirs and not config.weights and config.model not in BUNDLED
        asked = config.model_copy(update={"weights": "random"}) if downloads else config
        check_network(config, make_session("cpu", **flags).network(asked)[0])
