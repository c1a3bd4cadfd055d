"""Variables of the environment: `CNNVIS_STEPS=100` sets `steps` for every command that has it."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Mapping

from cnnvis_cli import config as room
from cnnvis_cli.config.base import CommandConfig
from cnnvis_cli.errors import ConfigError

PREFIX = "CNNVIS_"
# Those that are no keys.
_OTHERS = {f"{PREFIX}{name}" for name in ("DEVICE", "OUT", "OFFLINE", "DEBUG")}


def variables_of(keys: Iterable[str]) -> dict[str, str]:
    """The variables by their keys."""
    return {key: f"{PREFIX}{key.upper()}" for key in keys}


def check_variables(schema: type[CommandConfig], environment: Mapping[str, str]) -> None:
    """Raises ConfigError for variables that are a slip of the pen away from a key of some command."""
    own = {*_OTHERS, *variables_of(schema.model_fields).values()}
    names = [name for name in environment if name.startswith(PREFIX) and name not in own]
    if not names:
        return
    known = {*_OTHERS, *variables_of(_all_keys()).values()}
    close = {name: difflib.get_close_matches(name, known, 1, 0.85) for name in names if name not in known}
    if problems := [f"{name}: no key has this variable. Did you mean '{found[0]}'?" for name, found in close.items() if found]:
        raise ConfigError(problems)


def _all_keys() -> set[str]:
    """The keys of all commands."""
    modules = [importlib.import_module(f"{room.__name__}.{found.name}") for found in pkgutil.iter_modules(room.__path__)]
    kinds = [kind for module in modules for kind in vars(module).values() if isinstance(kind, type)]
    return {key for kind in kinds if issubclass(kind, CommandConfig) for key in kind.model_fields}
