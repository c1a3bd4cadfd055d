"""What the sidecars of a folder say, in the form in which the page wants it. Imports no torch."""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cnnvis_cli.config.base import CommandConfig
from cnnvis_cli.config.load import build_config, parse_settings
from cnnvis_cli.errors import UserError, shortened
from cnnvis_cli.jobs.record import Record, config_hash, parse_record
from cnnvis_cli.registry import COMMANDS, config_class

_POINTS, _LINES = 120, 24
# The number of a card, by command: the first of these that a result has, what it came to rather than where it began.
_TELLING = {
    "maximize": ("seen probability", "probability", "value", "mean value"),
    "saliency": ("insertion auc", "mean insertion auc", "value"),
    "occlude": ("insertion auc", "mean insertion auc", "value"),
    "dream": ("after",),
    "invert": ("ssim", "code distance", "rank correlation of code distance with depth"),
    "style": ("style ratio", "style distance"),
    "texture": ("style ratio", "copy rate"),
    "fool": ("robust accuracy", "probability", "fooled"),
    "evolve": ("median",),
    "train": ("style ratio", "accuracy", "loss"),
}
# Of a result's files, the figures that say more than its picture alone.
_FIGURES = ("-compare.png",)


def sidecars(folder: Path) -> list[Path]:
    """Every file in the folder that may be a record. Raises UserError where the folder is not there."""
    if not folder.is_dir():
        raise UserError(f"no folder '{folder}'. Results lie in runs/, or where --out says.")
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place) / name for name in sorted(names) if name.endswith(".json") and not name.startswith(".")]
    return found


def item_of(path: Path, page: Path) -> dict[str, Any] | str | None:
    """What the page is told of a result, its links relative to the page; None of what is no result; of one that cannot be
    read, the reason."""
    try:
        data = path.read_bytes()
        record = parse_record(data)
        if record is None:
            return None if _is_json(data) else "no JSON: its writing was cut off, or it is damaged"
        return _item(path, record, page.absolute().parent, default_values(record.command))
    except Exception as error:  # one odd record must not take the page of all others
        return shortened(str(error) or type(error).__name__, 200)


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _item(path: Path, record: Record, base: Path, defaults: Mapping[str, Any]) -> dict[str, Any]:
    command, config = record.command, record.config
    names = sorted(record.files, key=lambda name: not name.endswith(_FIGURES))
    files = [path.parent / name for name in names if (path.parent / name).exists()]
    scores = _flat(record.scores)
    idle = _chosen_by_itself(command, config) if command in COMMANDS else ()
    return {
        "command": command,
        "name": record.name or path.stem,
        "folder": os.path.relpath(path.parent, base).replace(os.sep, "/"),
        "model": str(config.get("model", "")),
        "layers": list(map(str, record.layers)),
        "classes": list(map(str, record.classes)),
        "files": [_link(file, base) for file in files],
        "paths": [str(file) for file in files],  # for the thumbnails; taken out again
        "sidecar": _link(path, base),
        "time": path.stat().st_mtime,
        "seconds": record.seconds,
        "device": record.device,
        "scores": scores,
        "telling": next((key for key in _TELLING.get(command, ()) if key in scores), ""),
        "config": {key: value for key, value in config.items() if defaults.get(key) != value and key not in idle},
        "traces": _traces(record.trace),
        "tiles": _tiles(record),
        "line": command_line(command, config, record.config_hash, path),
    }


def _rows(scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = scores.get("pictures", [])
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _link(path: Path, base: Path) -> str:
    return quote(os.fsencode(os.path.relpath(path.absolute(), base).replace(os.sep, "/")))


def _flat(scores: Any, prefix: str = "") -> dict[str, Any]:
    """Scores within scores get dotted names; lists stay in the JSON."""
    flat: dict[str, Any] = {}
    for key, value in scores.items() if isinstance(scores, dict) else ():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, dict):
            flat |= _flat(value, f"{name}.")
        elif isinstance(value, str | int | float) and len(str(value)) <= 200:
            flat[name] = value
    return flat


def _traces(trace: Any) -> list[list[float | None]]:
    """A trace, or several, thinned out to what a plot can show."""
    if isinstance(trace, dict):
        trace = list(trace.values())
    if not isinstance(trace, list) or not trace:
        return []
    lines = trace if isinstance(trace[0], list) else [trace]
    return [_thinned(line) for line in lines[:_LINES] if isinstance(line, list) and len(line) > 1]


def _thinned(line: list[Any]) -> list[float | None]:
    last = len(line) - 1
    at = sorted({round(number * last / (_POINTS - 1)) for number in range(_POINTS)})
    return [_rounded(line[i]) for i in at]


def _rounded(value: Any) -> float | None:
    """Of what a plot cannot show, a word or a number beyond all others, nothing."""
    try:
        return float(f"{value:.5g}") if isinstance(value, int | float) and math.isfinite(value) else None
    except OverflowError:
        return None


def _tiles(record: Record) -> list[dict[str, Any]]:
    """Where on the sheet which channel is: what the atlas is put together from. A picture by itself has no box."""
    rows = _rows(record.scores) or [record.scores]
    boxes: list[Any] = list(record.tiles) or [None]
    tiles: dict[tuple[str, int], dict[str, Any]] = {}
    for asked, row, box in zip(record.asked, rows, boxes, strict=False):
        first = asked[0] if isinstance(asked, list) and asked else {}
        layer, channel = first.get("layer"), first.get("index")
        if first.get("kind") in ("channel", "neuron") and isinstance(layer, str) and isinstance(channel, int):
            tiles.setdefault((layer, channel), {"layer": layer, "channel": channel, "box": box, "value": row.get("value")})
    return list(tiles.values())


@cache
def default_values(command: str) -> dict[str, Any]:
    """The defaults of a command, without its preset's. Nothing for a command that this version does not have."""
    if command not in COMMANDS:
        return {}
    fields = config_class(command).model_fields
    return {key: list(f.default) if isinstance(f.default, tuple) else f.default for key, f in fields.items()}


def command_line(command: str, config: Mapping[str, Any], digest: str, sidecar: Path) -> str:
    """What repeats the run: the settings that are not defaults or, where these do not lead back to it, `-c` with its JSON."""
    fallback = shlex.join(["cnnvis", command, "-c", str(sidecar)])
    if command not in COMMANDS or not config.keys() <= config_class(command).model_fields.keys():
        return fallback
    schema = config_class(command)
    idle = _chosen_by_itself(command, config)
    words = [_word(key, value, schema) for key, value in _given(command, config).items() if key not in idle]
    try:
        values = {key: value for word in words for key, value in _read(word, schema).items()}
        same = config_hash(command, build_config(schema, values)) == digest
    except UserError:
        same = False
    return shlex.join(["cnnvis", command, *words]) if same else fallback


def _given(command: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are neither defaults nor their preset's."""
    schema = config_class(command)
    base = default_values(command) | dict(schema.presets.get(str(config.get(schema.preset_key)), {}))
    return {key: value for key, value in config.items() if base.get(key) != value}


def _chosen_by_itself(command: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    """The preset's key, where what else was given leads to this preset."""
    schema = config_class(command)
    key = schema.preset_key
    if default_values(command).get(key) != "auto":
        return ()
    others = {name: value for name, value in _given(command, config).items() if name != key}
    return (key,) if schema.preset_for(others) == config.get(key) else ()


@lru_cache(4096)
def _read(word: str, schema: type[CommandConfig]) -> dict[str, Any]:
    """A word as the command line reads it; thousands of results share most of theirs."""
    return parse_settings([word], schema)


def _word(key: str, value: Any, schema: type[CommandConfig]) -> str:
    """`key=value`, in JSON (which is YAML too) where plain text would be read as something else."""
    if value is None:
        return f"{key}=null"
    plain = (
        ",".join(map(str, value)) if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else str(value)
    )
    if isinstance(value, list) and any("," in str(item) for item in value):
        return f"{key}={json.dumps(value)}"
    read = _read(f"{key}={plain}", schema)[key]
    return f"{key}={plain}" if read == value or (isinstance(read, str) and read == plain) else f"{key}={json.dumps(value)}"
