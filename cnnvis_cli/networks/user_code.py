"""Running a user's own Python: `package.module:name`, only with --trust-code, its mistakes told in one line."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from cnnvis_cli.engine.network.trial import said
from cnnvis_cli.errors import UserError, did_you_mean, shortened


@contextmanager
def prints_to_stderr() -> Iterator[None]:
    """What somebody else's code prints goes to stderr: stdout is for results."""
    with redirect_stdout(sys.stderr):
        yield


def load_object(place: str, key: str, *, trust_code: bool) -> Any:
    """What `package.module:name` names, found from the folder at hand; `key`: the setting that it is the value of.

    Raises UserError that says what is wrong and what would be right.
    """
    shown = f"{key}={shortened(place, 200)}"
    if not trust_code:
        raise UserError(f"{shown} would run your Python code. Add --trust-code if you trust it.")
    module_name, _, name = place.rpartition(":")
    if "/" in module_name or module_name.endswith(".py"):
        path = Path(module_name)
        stem = path.name.removesuffix(".py")
        folder = "" if path.parent == Path() else f" in the folder {path.parent}"
        raise UserError(f"{shown}: a module is named as in an import: did you mean '{stem}:{name}'{folder}?")
    if not name or not all(part.isidentifier() for part in module_name.split(".")):
        raise UserError(f"{shown} is not of the form package.module:name.")
    with _folder_at_hand(), prints_to_stderr():
        module = _imported(module_name, shown)
        found: Any = module
        for part in name.split("."):
            if not hasattr(found, part):
                hint = did_you_mean(part, [known for known in vars(module) if not known.startswith("_")])
                raise UserError(f"{shown}: {module_name} has no '{part}'.{hint}")
            found = getattr(found, part)
    return found


def _imported(name: str, what: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in (name, name.partition(".")[0]):
            raise UserError(f"{what}: it imports {error.name}, which is not installed.") from error
        known = [path.stem for path in Path.cwd().glob("*.py")]
        raise UserError(f"{what}: no module '{error.name}' in {Path.cwd()} or installed.{did_you_mean(name, known)}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also sys.exit on import
        raise UserError(f"{what} failed on import: {said(error)}.") from error


def call(function: Any, what: str) -> Any:
    """What a user's function without arguments returns; whatever it raises, sys.exit too, is told in one line."""
    try:
        with _folder_at_hand(), prints_to_stderr():
            return function()
    except (KeyboardInterrupt, UserError):
        raise
    except BaseException as error:
        raise UserError(f"{what} failed: {said(error)}.") from error


@contextmanager
def _folder_at_hand() -> Iterator[None]:
    sys.path.insert(0, str(Path.cwd()))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.pop(0)
