"""Results as commands leave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from cnnvis_cli.config.load import build_config
from cnnvis_cli.jobs.record import config_hash
from cnnvis_cli.registry import config_class


def put(folder: Path, name: str, command: str = "maximize", size: tuple[int, int] = (32, 32), **more: Any) -> None:
    """A result as a command leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = build_config(config_class(command), {"name": name, **more.pop("config", {})})
    Image.new("RGB", size, (200, 90, 30)).save(folder / f"{name}.png")
    values = {"command": command, "name": name, "config": config.model_dump(mode="json"), "files": [f"{name}.png"]}
    values |= {"config_hash": config_hash(command, config), "scores": {}, "seconds": 1.5, "device": "cpu", **more}
    (folder / f"{name}.json").write_text(json.dumps(values))
