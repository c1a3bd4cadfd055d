"""What the informative commands print: keys of a config, configs, models, layers, doctor."""

from __future__ import annotations

import os
import platform
import textwrap
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic_core import PydanticUndefined

from cnnvis_cli import __version__
from cnnvis_cli.batch.jobsfile import read_jobs
from cnnvis_cli.batch.plan import make_plan
from cnnvis_cli.config.base import CommandConfig, NetworkConfig
from cnnvis_cli.config.load import build_config, find_config, load_config, named_configs, read_config_file, read_text
from cnnvis_cli.errors import ConfigError, UserError
from cnnvis_cli.registry import COMMANDS, config_class

if TYPE_CHECKING:
    from cnnvis_cli.engine.locality.receptive_field import ReceptiveField


def key_rows(schema: type[CommandConfig]) -> list[tuple[str, str, str]]:
    """(key, default, description) of a config, in the order of the class."""
    rows = []
    for key, field in schema.model_fields.items():
        default = "" if field.default is PydanticUndefined else show_value(field.default)
        choices = _choices(field.annotation)
        about = " ".join(part for part in (field.description or "", f"({' | '.join(choices)})" if choices else "") if part)
        rows.append((key, default, about))
    return rows


def show_value(value: Any) -> str:
    """A value as one would write it after `key=`."""
    if isinstance(value, tuple | list):
        return ",".join(show_value(item) for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _choices(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is Literal:
        return [str(choice) for choice in typing.get_args(annotation)]
    return [choice for part in typing.get_args(annotation) if part is not type(None) for choice in _choices(part)]


def key_lines(schema: type[CommandConfig], width: int = 110) -> list[str]:
    """The table of keys for `--help`."""
    rows = [(f"{key}={default}", about) for key, default, about in key_rows(schema)]
    column = min(36, max(len(left) for left, _ in rows))
    lines = []
    for left, about in rows:
        wrapped = textwrap.wrap(about, width - column - 5) or [""]
        first = [] if len(left) <= column else [f"  {left}"]
        head = left if not first else ""
        lines += [*first, f"  {head:<{column}}  {wrapped[0]}", *(f"  {'':<{column}}  {rest}" for rest in wrapped[1:])]
    return lines


def config_yaml(command: str, config: CommandConfig) -> str:
    """The resolved config as YAML that can be run again."""
    values = {"command": command, **config.model_dump(mode="json")}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def print_configs() -> None:
    for name, path in named_configs().items():
        first = next((line.lstrip("# ") for line in read_text(path).splitlines() if line.startswith("#")), "")
        print(f"{name:<34} {first}")


def copy_config(name: str, target: Path, overwrite: bool) -> Path:
    """Copy a bundled example; an existing file stays unless `overwrite`."""
    source = find_config(name, "")
    path = target / source.name if target.is_dir() else target
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists already. Use --overwrite, or name another file.")
    from cnnvis_cli.pictures.write import atomic

    with atomic(path) as file:
        file.write(read_text(source).encode())
    return path


def check_configs(names: Sequence[str], command: str | None) -> None:
    """Validate each; raises ConfigError with all problems of all files."""
    problems = []
    for name in names or list(named_configs()):
        try:
            path = find_config(name, command or "")
            if not command and path.parent.name == "jobs":
                make_plan(read_jobs(path), "runs")
            else:
                build_config(config_class(of := command_of(path, command)), read_config_file(path, of))
        except ConfigError as error:
            problems += [f"{name}: {problem}" for problem in error.problems]
        except UserError as error:
            problems.append(f"{name}: {error}")
        else:
            print(f"{name}: ok")
    if problems:
        raise ConfigError(problems)


def command_of(path: Path, command: str | None = None) -> str:
    """Which command a config file is for: said by the caller, in the file, or by its folder."""
    from cnnvis_cli.config.load import parse_yaml

    if command:
        return command
    values = parse_yaml(read_text(path), str(path))
    if isinstance(values, dict) and isinstance(values.get("command"), str):
        return values["command"]
    if path.parent.name in COMMANDS:
        return path.parent.name
    raise UserError(f"{path} does not say which command it is for. Put `command: NAME` into it, or use --command.")


def print_models() -> None:
    from cnnvis_cli.networks.load import BUNDLED, model_names

    for name in model_names():
        print(f"{name:<24} {'bundled' if name in BUNDLED else 'torchvision'}")
    print("package.module:factory   your own (--trust-code)")


def print_layers(model: str, settings: Sequence[str], *, offline: bool, trust_code: bool) -> None:
    """The table of layers. Random weights serve where none are given: the table does not depend on them."""
    from cnnvis_cli.engine.locality.receptive_field import receptive_fields
    from cnnvis_cli.jobs.session import make_session
    from cnnvis_cli.networks.load import BUNDLED

    weights = [] if model in BUNDLED or ":" in model else ["weights=random"]
    config = load_config(NetworkConfig, "layers", settings=[*weights, *settings, f"model={model}"], environment={})
    session = make_session("cpu", offline=offline, trust_code=trust_code)
    network, _ = session.network(config)
    aliases = {layer: alias for alias, layer in network.aliases.items()}
    names = [
        f"{layer.name} ({aliases[layer.name]})" if layer.name in aliases else layer.name for layer in network.layers.values()
    ]
    width = max(map(len, names))
    fields = receptive_fields(network)
    print(f"{'layer':<{width}} {'kind':<20} {'channels':>8} {'size':>9} {'receptive field':>22}")
    for name, layer in zip(names, network.layers.values(), strict=True):
        size = "x".join(map(str, layer.shape[1:])) or "-"
        print(f"{name:<{width}} {layer.kind:<20} {layer.channels:>8} {size:>9} {_field(fields[layer.name]):>22}")


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
    for extra, package in (("video", "imageio-ffmpeg"), ("onnx", "onnxruntime"), ("ray", "ray"), ("timm", "timm")):
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
