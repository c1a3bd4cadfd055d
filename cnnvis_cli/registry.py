"""The commands, by name. Imports neither torch nor the commands themselves, so that `cnnvis --help` answers at once.

A command NAME is two files: `config/NAME.py` with a class `NameConfig` and `commands/NAME.py` with `run(config, job)`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cnnvis_cli.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from cnnvis_cli.config.base import CommandConfig

COMMANDS = {
    "maximize": "The picture that a neuron, a channel, a layer or a class likes best.",
    "style": "The content of one picture in the style of others.",
    "texture": "More of a texture from a small piece of it.",
}


def config_class(command: str) -> type[CommandConfig]:
    """The typed config of a command. Raises UserError with near names."""
    if command not in COMMANDS:
        raise UserError(f"no command '{command}'.{did_you_mean(command, COMMANDS)} Commands: {', '.join(COMMANDS)}.")
    module = importlib.import_module(f"cnnvis_cli.config.{command}")
    return getattr(module, f"{command.capitalize()}Config")


def page(command: str) -> Any:
    """The module `commands/NAME.py`, which imports torch."""
    return importlib.import_module(f"cnnvis_cli.commands.{command}")
