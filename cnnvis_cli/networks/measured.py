"""What was measured of networks, kept on disk by their weights: which sizes they take is found once.

A user's own networks are left out: their code may change while the weights stay.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.network.sizes import Sizes
from cnnvis_cli.errors import RunError
from cnnvis_cli.files.atomic import atomic

_MOST = 1000  # entries; the oldest go first


def cache_file() -> Path:
    """In the user's folder for what can be made again; `CNNVIS_CACHE_HOME` and `XDG_CACHE_HOME` name another."""
    base = os.environ.get("CNNVIS_CACHE_HOME") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "cnnvis" / "sizes.json"


def remember_sizes(network: Network, digest: str) -> None:
    """Give a network the sizes that are known of it, and have them kept once it finds them."""
    key = f"{network.name} {digest}"
    known = _read().get(key)
    try:
        if known is not None and (sizes := Sizes(**known)).own == network.size:
            network.known_sizes = sizes
            return
    except TypeError:
        pass  # of another version
    network.on_sizes = lambda found: _keep(key, found)


def _read() -> dict[str, Any]:
    try:
        found = json.loads(cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _keep(key: str, sizes: Sizes) -> None:
    entries = _read()
    entries.pop(key, None)
    entries[key] = asdict(sizes)
    newest = dict(list(entries.items())[-_MOST:])
    try:
        cache_file().parent.mkdir(parents=True, exist_ok=True)
        with atomic(cache_file()) as file:
            file.write(json.dumps(newest).encode())
    except (OSError, RunError):
        pass  # it is found again next time
