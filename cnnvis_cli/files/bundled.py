"""Where the files that travel with the package are: in a checkout beside it, in a wheel inside it."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent.parent


def _folder(name: str) -> Path:
    inside = _PACKAGE / f"_{name}"
    return inside if inside.is_dir() else _PACKAGE.parent / name


def assets_folder() -> Path:
    """Bundled weights and model cards."""
    return _folder("assets")


def configs_folder() -> Path:
    """The commented examples: `COMMAND/NAME.yaml`."""
    return _folder("configs")
