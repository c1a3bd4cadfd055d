"""What a result is called, and what makes two of them the same. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import re

from cnnvis_cli.config.base import CommandConfig


def config_hash(command: str, config: CommandConfig) -> str:
    """What makes two jobs the same: the command and every resolved setting."""
    text = json.dumps({"command": command, **config.model_dump(mode="json")}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def safe_name(text: str) -> str:
    """A file name out of any text: letters, digits, '.', '-' and '_'; at most 100 characters."""
    name = re.sub(r"[^\w.+-]+", "-", text.strip()).strip("-.") or "result"
    return name if len(name) <= 100 else f"{name[:90]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
