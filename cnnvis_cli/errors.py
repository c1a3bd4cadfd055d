"""Errors that end in one line for the user, and their exit codes. (The engine's own stand in `engine/errors.py`.)"""

from __future__ import annotations

from cnnvis_cli.engine.errors import OutOfMemory, RunError, SizeError, UnknownLayer, UserError, did_you_mean, shortened

__all__ = [
    "ChangedError",
    "ConfigError",
    "Interrupted",
    "OutOfMemory",
    "RunError",
    "SizeError",
    "UserError",
    "did_you_mean",
    "in_words",
    "shortened",
]


_LONGEST = 2000  # characters of a line that anybody reads


class ConfigError(UserError):
    """Everything that is wrong with a config, one line each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = [shortened(problem, _LONGEST) for problem in problems]
        super().__init__("\n".join(self.problems))


class ChangedError(Exception):
    """A picture is not the one that the state to go on from was made with (exit 2). No UserError: who leaves out what cannot
    be read must not leave out this."""


class Interrupted(Exception):
    """Ctrl-C, after what there is has been saved (exit 130). The message says where."""


def in_words(error: BaseException) -> list[str]:
    """The lines that a user is shown, with the remedies that are commands of this tool."""
    if isinstance(error, ConfigError):
        return error.problems
    if isinstance(error, UnknownLayer):
        return [f"{error} `cnnvis layers {error.network}` lists them."]
    return [shortened(error, _LONGEST) or "interrupted."]
