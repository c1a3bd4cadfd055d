"""The Record: the JSON beside a result, as data with fields. Written and read here alone. And what a result is called.

Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypedDict

from cnnvis_cli.config.base import CommandConfig
from cnnvis_cli.files.atomic import atomic


class Asked(TypedDict, total=False):
    """One thing that a picture was asked for: an objective's term. `label` is how a reader would write it."""

    kind: str
    layer: str
    index: int
    name: str
    weight: float
    label: str


@dataclass
class Record:
    """All that is known of a result. Numbers are numbers and lists are lists; words are made where they are printed.

    `config`: the resolved settings; `config_hash`: of these and the command. `inputs`: SHA-256 by picture. `networks`: by
    model, `weights` and their `sha256`. `named`: SHA-256 of the files that the config names. `layers`, `classes`: what the
    result shows, for who looks for them.
    `asked`: what each picture was asked for, in the order of `tiles`, the (left, top, right, bottom) of each on the sheet.
    `stopped`: why each loop ended. `trace`: the objective by step, of one loop or a list of them. `skipped`: pictures that were
    left out, and why. `details`: what a command adds to it, at the top level of the JSON.
    """

    command: str
    name: str
    config: dict[str, Any]
    config_hash: str
    seed: int = 0
    scores: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    inputs: dict[str, str] = field(default_factory=dict)
    networks: dict[str, dict[str, str]] = field(default_factory=dict)
    named: dict[str, str] = field(default_factory=dict)
    layers: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    asked: list[list[Asked]] = field(default_factory=list)
    tiles: list[list[int]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    trace: Any = None
    skipped: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    device: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    fitted_batch: int | None = None
    seconds: float | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def shows(self, *, layers: list[str] | None = None, classes: list[str] | None = None) -> None:
        """Add to what the result shows."""
        self.layers = list(dict.fromkeys([*self.layers, *(layers or [])]))
        self.classes = list(dict.fromkeys([*self.classes, *(classes or [])]))

    def note(self, **details: Any) -> None:
        """What a command adds of its own."""
        self.details.update(details)

    def as_json(self) -> dict[str, Any]:
        """In JSON's types. Fields that say nothing are left out."""
        said = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "details"}
        known = {key: value for key, value in said.items() if key in _ALWAYS or value not in (None, [], {})}
        return plain(known | self.details)

    def write(self, path: Path) -> None:
        with atomic(path) as file:
            text = json.dumps(self.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
            # Bytes of a file name that are no UTF-8 are escaped as JSON escapes characters: the name comes back as it was.
            file.write((text + "\n").encode("utf-8", "backslashreplace"))


# The types of the fields that have no default to tell them.
_KINDS: dict[str, tuple[type, ...]] = dict.fromkeys(("command", "name", "config_hash"), (str,)) | {
    "config": (dict,),
    "trace": (list, dict),
    "seconds": (int, float),
    "fitted_batch": (int,),
}
_ALWAYS = ("command", "name", "config", "config_hash", "seed", "scores", "files", "inputs", "skipped", "device", "versions")


def read_record(path: Path) -> Record | None:
    """The record at `path`; None where there is none or it is not one, whatever else the file holds."""
    try:
        return parse_record(path.read_bytes())
    except OSError:
        return None


def parse_record(data: bytes) -> Record | None:
    """A record out of its JSON; None where it is none. Fields of another type than theirs are left out."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or not all(isinstance(values.get(key), str) for key in ("command", "config_hash")):
        return None
    kinds = {f.name: f.default_factory() if callable(f.default_factory) else f.default for f in fields(Record)}
    known: dict[str, Any] = {"name": "", "config": {}}
    for name, empty in kinds.items():
        if name == "details" or name not in values:
            continue
        if isinstance(values[name], _KINDS.get(name, type(empty))):
            known[name] = values[name]
    known["files"] = [file for file in known.get("files", []) if isinstance(file, str)]
    return Record(**known, details={key: value for key, value in values.items() if key not in kinds})


MOST_HASHES = 5000  # of pictures, that a record holds one by one


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What two configs differ in, in words."""
    keys = [key for key in new if old.get(key) != new[key]]
    return ", ".join(f"{key}: {old.get(key)!r}, now {new[key]!r}" for key in keys[:3]) or "an older version of cnnvis"


def brief(inputs: Mapping[str, str], most: int = MOST_HASHES) -> dict[str, str]:
    """The inputs' hashes, or one over all of them where they are many."""
    if len(inputs) <= most:
        return dict(inputs)
    together = hashlib.sha256("".join(digest for _, digest in sorted(inputs.items())).encode())
    return {f"{len(inputs)} pictures": together.hexdigest()}


def plain(value: Any) -> Any:
    """The same value in JSON's types; a number that is not finite becomes null, floats keep 7 digits."""
    if hasattr(value, "tolist"):  # tensors, arrays and their numbers
        value = value.tolist()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


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
