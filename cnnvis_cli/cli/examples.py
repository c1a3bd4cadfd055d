"""`cnnvis configs`: the bundled examples, listed, copied, checked."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from cnnvis_cli.batch.jobsfile import read_jobs
from cnnvis_cli.batch.plan import make_plan
from cnnvis_cli.config.load import build_config, find_config, named_configs, read_config_file, read_text
from cnnvis_cli.errors import ConfigError, UserError
from cnnvis_cli.files.atomic import atomic
from cnnvis_cli.registry import COMMANDS, config_class


def print_configs() -> None:
    for name, path in named_configs().items():
        print(f"{name:<34} {_first_sentence(read_text(path))}")


def _first_sentence(text: str) -> str:
    """Of the comment at the top of a file, over its lines."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    return re.split(r"(?<=\.)(?<!al\.)\s+", " ".join(line.lstrip("# ") for line in lines), maxsplit=1)[0]


def copy_config(name: str, target: Path, overwrite: bool) -> Path:
    """Copy a bundled example; an existing file stays unless `overwrite`."""
    source = find_config(name, "")
    path = target / source.name if target.is_dir() else target
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists already. Use --overwrite, or name another file.")
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
