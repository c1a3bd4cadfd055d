"""What a result is called, what makes two of them the same, and the JSON beside it. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from cnnvis_cli.config.base import CommandConfig


def config_hash(command: str, config: CommandConfig) -> str:
    """What makes two jobs the same: the command and every resolved setting."""
    text = json.dumps({"command": command, **config.model_dump(mode="json")}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def safe_name(text: str) -> str:
    """A file name out of any text: letters, digits, '.', '-' and '_'; at most 100 characters."""
    name = re.sub(r"[^\w.+-]+", "-", text.strip()).strip("-.") or "result"
    return name if len(name) <= 100 else f"{name[:90]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def read_sidecar(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    keys = [key for key in new if old.get(key) != new[key]]
    return ", ".join(f"{key}: {old.get(key)!r}, now {new[key]!r}" for key in keys[:3]) or "an older version of cnnvis"
