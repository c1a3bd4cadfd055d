"""What this installation has: models, a network's layers, versions and devices."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnnvis_cli import __version__
from cnnvis_cli.config.base import NetworkConfig
from cnnvis_cli.config.load import load_config

if TYPE_CHECKING:
    from cnnvis_cli.engine.locality.receptive_field import ReceptiveField
    from cnnvis_cli.engine.network.network import Network


def print_models() -> None:
    from cnnvis_cli.networks.load import BUNDLED, model_names

    for name in model_names():
        print(f"{name:<24} {'bundled' if name in BUNDLED else 'torchvision'}")
    print("timm:NAME                any of timm's (pip install 'cnnvis[timm]')")
    print("package.module:factory   your own (--trust-code)")


def print_layers(model: str, settings: Sequence[str], *, offline: bool, trust_code: bool) -> None:
    """The table of layers. Random weights serve where none are given: the table does not depend on them."""
    from cnnvis_cli.engine.locality.receptive_field import receptive_fields
    from cnnvis_cli.jobs.session import make_session
    from cnnvis_cli.networks.load import BUNDLED
    from cnnvis_cli.networks.user_code import prints_to_stderr

    own = model in BUNDLED or (":" in model and not model.startswith("timm:"))
    said = any(word.partition("=")[0].strip() == "weights" for word in settings)
    weights = [] if own or said else ["weights=random"]
    config = load_config(NetworkConfig, "layers", settings=[*weights, *settings, f"model={model}"], environment={})
    session = make_session("cpu", offline=offline, trust_code=trust_code)
    with prints_to_stderr():  # its own code may print in every pass
        network, _ = session.network(config)
        sizes, fields = network.sizes, receptive_fields(network)
    steady = "steady" if network.steady else "answers otherwise each time"
    print(f"returns {network.reading.describe()}; takes {sizes.describe()}; maps {_orders(network)}; {steady}")
    aliases = {layer: alias for alias, layer in network.aliases.items()}
    names = [
        f"{layer.name} ({aliases[layer.name]})" if layer.name in aliases else layer.name for layer in network.layers.values()
    ]
    width = max(map(len, names))
    print(f"{'layer':<{width}} {'kind':<20} {'channels':>8} {'size':>9} {'receptive field':>22}")
    for name, layer in zip(names, network.layers.values(), strict=True):
        size = "x".join(map(str, layer.shape[1:])) or "-"
        print(f"{name:<{width}} {layer.kind:<20} {layer.channels:>8} {size:>9} {_field(fields[layer.name]):>22}")
    unknown = dict.fromkeys(name for field in fields.values() for name in field.approximate)
    if unknown:
        print(
            f"approximate after {', '.join(unknown)}: not in the table of operators, taken to see all that stands before them"
        )


def _orders(network: Network) -> str:
    """How its maps lie: `NCHW`, `NHWC (36 of 80)`, `tokens (25 of 30; 1 other token left out)`."""
    kinds: Counter[str] = Counter()
    for layer in network.layers.values():
        if layer.spatial:
            extra = f", {layer.layout.extra} other left out" if layer.layout.extra else ""
            maps = "NCHW" if layer.layout.channel == 1 else "NHWC"
            kinds[maps if layer.layout.kind == "maps" else f"tokens{extra}"] += 1
    if len(kinds) <= 1:
        return next(iter(kinds), "none")
    return ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common())


def _field(field: ReceptiveField) -> str:
    """Its size in pixels, and how far the next unit's lies beside it."""
    if field.size is None:
        return "whole picture"
    return f"{field.size[0]}x{field.size[1]} every {field.rows.stride}"


def print_doctor() -> None:
    import importlib.metadata as metadata

    import torch

    print(f"cnnvis {__version__}, Python {platform.python_version()} on {platform.platform()}")
    for name in ("torch", "torchvision", "numpy", "pillow", "pydantic", "typer", "scikit-image", "scikit-learn"):
        print(f"  {name} {metadata.version(name)}")
    for extra, package in (
        ("video", "imageio-ffmpeg"),
        ("onnx", "onnxruntime"),
        ("ray", "ray"),
        ("timm", "timm"),
        ("heif", "pillow-heif"),
    ):
        try:
            print(f"  {package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            print(f"  {package} is not installed: pip install 'cnnvis[{extra}]'")
    print(f"threads: {torch.get_num_threads()} of {os.cpu_count()} processors")
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"devices: cpu{''.join(f', cuda:{i} ({name})' for i, name in enumerate(cuda))}", end="")
    print(", mps" if torch.backends.mps.is_available() else "")
    if not cuda:
        print("  no CUDA device: --device cuda will be refused")
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    files = sorted(cache.glob("*.pth")) if cache.is_dir() else []
    print(f"weights cache: {cache} ({len(files)} files{', e.g. ' + files[0].name if files else ''})")
