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
    "saliency": "What in this picture made the network say so: gradients and what is built on them.",
    "occlude": "Which part of the picture the network cannot do without: cover one window after the other.",
    "invert": "What a layer keeps of a picture: the picture whose code is the same, and which channels matter.",
    "dream": "What a layer would like to see in a picture: deep dream, guided, in tiles, zooming.",
    "style": "The content of one picture in the style of others.",
    "texture": "More of a texture from a small piece of it.",
    "fool": "Change a picture so little that one hardly sees it, and the network answers something else.",
    "evolve": "Images that a network is certain of, found by evolution alone.",
    "filters": "A convolution's weights as pictures.",
    "activations": "What a layer's units answer to a picture, as maps.",
    "patches": "The patches of many pictures that excite each unit most.",
    "neighbors": "The pictures nearest to a picture, in a layer's feature space and in pixel space.",
    "train": "Networks that learn: a painting in one pass, a classifier, plain or robust; as a file of weights.",
    "embed": "Many pictures in the plane: PCA and t-SNE of a layer's features.",
}


def config_class(command: str) -> type[CommandConfig]:
    """The typed config of a command. Raises UserError with near names."""
    if command not in COMMANDS:
        raise UserError(f"no command '{command}'.{did_you_mean(command, COMMANDS)} Commands: {', '.join(COMMANDS)}.")
    module = importlib.import_module(f"cnnvis_cli.config.{command}")
    return getattr(module, f"{command.capitalize()}Config")


def command_module(command: str) -> Any:
    """The module `commands/NAME.py`, which imports torch."""
    return importlib.import_module(f"cnnvis_cli.commands.{command}")
