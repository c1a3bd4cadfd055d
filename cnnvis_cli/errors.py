"""Errors that end in one line for the user, and their exit codes. (The engine's own stand in `engine/errors.py`.)"""

from __future__ import annotations

from cnnvis_cli.engine.errors import OutOfMemory, RunError, SizeError, UserError, did_you_mean

__all__ = ["ConfigError", "Interrupted", "OutOfMemory", "RunError", "SizeError", "UserError", "did_you_mean"]


class ConfigError(UserError):
    """Everything that is wrong with a config, one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Interrupted(Exception):
    """Ctrl-C, after what there is has been saved (exit 130). The message says where."""
