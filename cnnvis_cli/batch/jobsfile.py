"""Reading a jobs file: includes, defaults, `matrix` and `zip`, paths relative to the file. Imports no torch.

out: runs/atlas                 # folder of the results, relative to this file; runs/NAME-OF-FILE if it is not there
include: [more.yaml]            # the jobs of other files come first
defaults: {size: 96}            # for every job whose command has the key
jobs:
  - command: maximize           # what stands here is what would stand in the command's own YAML file
    config: maximize/class      # begin with an example, or a file
    matrix: {seed: {range: [0, 3]}, objective: ["class:cat", "class:dog"]}     # every one with every one: 6 jobs
    zip: {steps: [64, 256], name: [short, long]}                               # side by side
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnvis_cli.config.load import find_config, merge, parse_yaml, read_config_file, read_text
from cnnvis_cli.errors import ConfigError, UserError, did_you_mean, shortened
from cnnvis_cli.registry import COMMANDS, config_class

_FILE_KEYS = ("out", "include", "defaults", "jobs")
_NOBODY = "no job's command has this key"
_JOB_KEYS = ("command", "config", "out", "matrix", "zip")
# No file of jobs comes near these.
_MOST_FILES, _MOST_INCLUDES = 1_000_000, 1_000
_FILE_SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
    ".bmp",
    ".tif",
    ".tiff",
    ".gif",
    ".ppm",
    ".pth",
    ".pt",
    ".safetensors",
    ".npy",
)

Point = dict[str, Any]


@dataclass(frozen=True)
class Axis:
    """Keys that change together, each with its values. A range stays a range: a billion points take no memory."""

    values: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return min(len(values) for values in self.values.values())

    def __iter__(self) -> Iterator[Point]:
        for row in zip(*self.values.values(), strict=True):
            yield dict(zip(self.values, row, strict=True))


@dataclass(frozen=True)
class Entry:
    """One item of a jobs file: the settings that all its points share, and the axes along which they differ."""

    place: str
    command: str
    defaults: Mapping[str, Any]
    settings: Mapping[str, Any]
    axes: tuple[Axis, ...]
    out: str

    @property
    def count(self) -> int:
        return math.prod(len(axis) for axis in self.axes)

    def points(self) -> Iterator[Point]:
        """The values of the axes, one mapping per job, the last axis fastest."""
        for combination in itertools.product(*self.axes):
            yield {key: value for point in combination for key, value in point.items()}


@dataclass(frozen=True)
class JobsFile:
    """What a jobs file and its includes ask for. `out`: absolute, or None where the file does not say."""

    path: Path
    out: str | None
    entries: tuple[Entry, ...]

    @property
    def count(self) -> int:
        return sum(entry.count for entry in self.entries)


class _Reader:
    def __init__(self) -> None:
        self.problems: list[str] = []
        self.unused: dict[str, str] = {}
        self.used: set[str] = set()
        self.files = 0

    def file(self, path: Path, above: tuple[Path, ...], inherited: Mapping[str, Any]) -> JobsFile:
        self.files += 1
        if self.files > _MOST_INCLUDES:
            raise UserError(f"{path.name}: more than {_MOST_INCLUDES:,} files are included.")
        values = parse_yaml(read_text(path), str(path))
        if isinstance(values, list):
            values = {"jobs": values}
        if not isinstance(values, dict):
            raise UserError(f"{path} must have a list of `jobs`.")
        for key in values.keys() - set(_FILE_KEYS):
            self.problems.append(f"{path.name}: {key}: unknown key.{did_you_mean(str(key), _FILE_KEYS)}")
        base = path.resolve().parent
        own = values.get("defaults") or {}
        if not isinstance(own, dict):
            self.problems.append(f"{path.name}: defaults: must be a mapping of keys to values.")
            own = {}
        defaults = merge(inherited, {key: _resolved(value, base) for key, value in own.items()})
        self.unused |= {key: f"{path.name}: defaults.{key}" for key in own}
        entries = self._includes(path, values.get("include"), (*above, path.resolve()), defaults)
        jobs = values.get("jobs") or []
        if not isinstance(jobs, list):
            self.problems.append(f"{path.name}: jobs: must be a list.")
            jobs = []
        for number, job in enumerate(jobs, 1):
            try:
                entries.append(self._entry(f"{path.name}: jobs.{number}", job, base, defaults))
            except ConfigError as error:
                self.problems += error.problems
            except UserError as error:
                self.problems.append(f"{path.name}: jobs.{number}: {error}")
        out = values.get("out")
        return JobsFile(path, None if out is None else place_of(str(out), base), tuple(entries))

    def _includes(self, path: Path, names: Any, above: tuple[Path, ...], defaults: Mapping[str, Any]) -> list[Entry]:
        entries: list[Entry] = []
        names = [names] if isinstance(names, str) else names or []
        if not isinstance(names, list) or not all(isinstance(name, str) and "\0" not in name for name in names):
            self.problems.append(f"{path.name}: include: must be a list of files.")
            names = []
        for name in names:
            other = path.parent / name
            if other.resolve() in above:
                chain = " -> ".join(step.name for step in (*above[above.index(other.resolve()) :], other))
                self.problems.append(f"{path.name}: include: goes round in a circle: {chain}.")
                continue
            try:
                entries += self.file(other, above, defaults).entries
            except UserError as error:
                self.problems.append(f"{path.name}: include: {error}")
        return entries

    def _entry(self, place: str, job: Any, base: Path, defaults: Mapping[str, Any]) -> Entry:
        if not isinstance(job, dict):
            raise ConfigError([f"{place}: must be a mapping of keys to values."])
        for way in ("matrix", "zip"):
            if isinstance(job.get(way), Mapping) and "command" in job[way]:
                raise ConfigError([f"{place}: {way}: a job has one command: write a job for each."])
        own = job.get("command")
        command = own or defaults.get("command")
        stands = place if own or not command else self.unused["command"]
        if not isinstance(command, str) or command not in COMMANDS:
            hint = did_you_mean(str(command), COMMANDS) if command else ""
            said = f"no command '{shortened(command)}'.{hint}" if command else "has no `command`."
            raise ConfigError([f"{stands}: {said} Commands: {', '.join(COMMANDS)}."])
        fields = config_class(command).model_fields
        settings: dict[str, Any] = {}
        if job.get("config"):
            named = base / str(job["config"])
            there = os.path.isfile(named)  # noqa: PTH113 - Path.is_file raises for names that are too long
            path = named if there else find_config(str(job["config"]), command)
            settings = {key: _resolved(value, path.resolve().parent) for key, value in read_config_file(path, command).items()}
        settings |= {str(key): _resolved(value, base) for key, value in job.items() if key not in _JOB_KEYS}
        self.used |= defaults.keys() & (fields.keys() if own else {*fields, "command"})
        axes = _axes(place, job, base)
        shared = {key: value for key, value in defaults.items() if key in fields}
        return Entry(place, command, shared, settings, axes, str(job["out"]) if job.get("out") else command)


def read_jobs(path: Path) -> JobsFile:
    """A jobs file with all that it includes. Raises ConfigError with all that is wrong, a line each."""
    reader = _Reader()
    found = reader.file(path, (), {})
    if not found.entries and not reader.problems:
        raise UserError(f"{path} has no jobs.")
    # Only where all jobs could be read: those that could not may have had the key.
    reader.problems = reader.problems or [
        f"{where}: {'every job names its own command' if key == 'command' else _NOBODY}."
        for key, where in reader.unused.items()
        if key not in reader.used
    ]
    if reader.problems:
        raise ConfigError(list(dict.fromkeys(reader.problems)))
    return found


def _axes(place: str, job: Mapping[str, Any], base: Path) -> tuple[Axis, ...]:
    """Of `matrix` one axis per key, of `zip` a single one."""
    axes = [Axis({key: values}) for key, values in _ranges(f"{place}.matrix", job.get("matrix"), base).items()]
    side_by_side = _ranges(f"{place}.zip", job.get("zip"), base)
    if len({len(values) for values in side_by_side.values()}) > 1:
        lengths = ", ".join(f"{key}: {len(values)}" for key, values in side_by_side.items())
        raise ConfigError([f"{place}.zip: lists of different lengths ({lengths})."])
    if side_by_side:
        axes.append(Axis(side_by_side))
    return tuple(axes)


def _ranges(place: str, given: Any, base: Path) -> dict[str, Sequence[Any]]:
    """The values of every key: a list, `{range: [FIRST, END, STEP]}` as in Python, or `{files: GLOB}`."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ConfigError([f"{place}: must be a mapping of keys to lists."])
    found: dict[str, Sequence[Any]] = {}
    for key, values in given.items():
        if isinstance(values, dict) and set(values) == {"range"}:
            found[key] = _range(f"{place}.{key}", values["range"])
        elif isinstance(values, dict) and set(values) == {"files"}:
            found[key] = [str(path) for path in _matching(f"{place}.{key}", str(values["files"]), base) if path.is_file()]
        elif isinstance(values, list):
            found[key] = [_resolved(value, base) for value in values]
        else:
            raise ConfigError([f"{place}.{key}: must be a list, {{range: [FIRST, END]}} or {{files: GLOB}}."])
        if not found[key]:
            raise ConfigError([f"{place}.{key}: has no values."])
    return found


def _range(place: str, ends: Any) -> range:
    """`[END]`, `[FIRST, END]` or `[FIRST, END, STEP]`."""
    whole = isinstance(ends, list) and all(isinstance(end, int) and not isinstance(end, bool) for end in ends)
    if not whole or not 1 <= len(ends) <= 3 or (len(ends) == 3 and ends[2] == 0):
        raise ConfigError([f"{place}: a range is [FIRST, END] or [FIRST, END, STEP], of whole numbers, STEP not 0."])
    found = range(*ends)
    try:
        len(found)
    except OverflowError:
        raise ConfigError([f"{place}: a range of more values than can be counted."]) from None
    return found


def _matching(place: str, pattern: str, base: Path) -> list[Path]:
    """The files and folders that a glob relative to `base`, or an absolute one, means; sorted."""
    try:
        root, relative = (base, pattern) if not Path(pattern).is_absolute() else (Path("/"), pattern.lstrip("/"))
        found = list(itertools.islice(root.glob(relative), _MOST_FILES + 1))
    except (ValueError, NotImplementedError, OSError, RecursionError) as error:
        raise ConfigError(
            [f"{place}: '{shortened(pattern)}' is no pattern of files: {error}. Write for instance **/*.png."]
        ) from None
    if len(found) > _MOST_FILES:
        raise ConfigError([f"{place}: '{shortened(pattern)}' means more than {_MOST_FILES:,} files."])
    return sorted(found)


def place_of(folder: str, base: Path) -> str:
    """A folder relative to `base` as an absolute path; an address (s3://...) stays as it is."""
    return folder if "://" in folder else str((base / expanded(folder)).absolute())


def expanded(path: str) -> Path:
    """With `~` as the home; a home that nobody has stays as it is written."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises there


def looks_like_file(value: str) -> bool:
    """Whether a setting is written as a path is: with a slash, or the ending of a picture or of weights."""
    return ":" not in value and ("/" in value or value.lower().endswith(_FILE_SUFFIXES))


def must_be_there(value: str) -> bool:
    """Whether it can only be a file or a folder: an absolute path, or the ending of a picture or of weights."""
    return ":" not in value and (value.startswith(("/", "~/")) or value.lower().endswith(_FILE_SUFFIXES))


def model_and_weights(value: str) -> tuple[str, str]:
    """MODEL@WEIGHTS in its two parts; "" for what is not written so."""
    model, _, weights = value.partition("@")
    return (model, weights) if re.fullmatch(r"[\w.:-]+", model) else ("", "")


def _resolved(value: Any, base: Path) -> Any:
    """Text that looks like a path and is there relative to the jobs file becomes absolute; all else stays."""
    if isinstance(value, list):
        return [_resolved(item, base) for item in value]
    if not isinstance(value, str) or not looks_like_file(value) or expanded(value).is_absolute():
        return value
    there = base / value
    model, weights = model_and_weights(value)
    if weights and not os.path.exists(there):  # noqa: PTH110 - as below
        return f"{model}@{_resolved(weights, base)}"
    exists = os.path.exists(there)  # noqa: PTH110 - Path.exists raises for names that are too long
    try:
        found = any(True for _ in base.glob(value)) if any(mark in value for mark in "*?[") else exists
    except (ValueError, NotImplementedError, OSError):
        found = False  # no pattern: what reads the setting says so
    return str(there.resolve() if exists else there) if found or value.startswith(("./", "../")) else value
