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


def safe_name(text: str, most: int = 100) -> str:
    """A file name out of any text: letters, digits, '.', '-' and '_'; at most `most` bytes, of a longer one the beginning."""
    name = re.sub(r"[^\w.+-]+", "-", text.strip()).strip("-.") or "result"
    if len(name.encode()) <= most:
        return name
    start = name.encode()[: most - 10].decode(errors="ignore")
    return f"{start}-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
