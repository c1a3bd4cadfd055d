"""From a jobs file to a list of jobs, each with its complete config and its folder, checked as a whole. Imports no torch."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cnnvis_cli.batch.jobsfile import Entry, JobsFile, Point, expanded, model_and_weights, must_be_there, place_of
from cnnvis_cli.batch.places import read_result
from cnnvis_cli.config.base import MOST_NAME_BYTES, CommandConfig
from cnnvis_cli.config.load import build_config, environment_settings, merge, parse_settings, without_idle
from cnnvis_cli.config.variables import variables_of
from cnnvis_cli.errors import ConfigError, UserError
from cnnvis_cli.errors import shortened as brief
from cnnvis_cli.jobs.record import config_hash, difference, safe_name
from cnnvis_cli.registry import config_class

MANY, TOO_MANY = 10_000, 10_000_000
# What a key in a name can be followed by: `{seed:03d}`, `{rate:.2g}`.
_SPEC = re.compile(r"[<>^]?0?[0-9]{0,2}(\.[0-9]{1,2})?[defgsx]?")
_LINES_SHOWN = 30


@dataclass(frozen=True)
class Planned:
    """One job that is to be done. `folder`: an absolute path or an fsspec address."""

    place: str
    command: str
    config: CommandConfig
    folder: str

    @property
    def name(self) -> str:
        return safe_name(self.config.name or self.config.slug())

    @cached_property
    def hash(self) -> str:
        return config_hash(self.command, self.config)

    @property
    def sidecar(self) -> str:
        return f"{self.folder}/{self.name}.json"

    @property
    def network(self) -> tuple[str, ...]:
        """What jobs on the same network have in common."""
        return tuple(str(getattr(self.config, key, "")) for key in ("model", "weights", "precision", "memory_format"))


def make_plan(jobs: JobsFile, root: str, settings: Sequence[str] = (), *, many: bool = False) -> list[Planned]:
    """All jobs, those of one network side by side. `settings`: `key=value` for every job whose command has the key.

    Raises ConfigError with everything that is wrong; UserError for more than 10,000 jobs unless `many`.
    """
    if jobs.count > MANY and not many:
        raise UserError(f"{jobs.path} asks for {jobs.count:,} jobs. Add --yes if you mean it.")
    if jobs.count > TOO_MANY:
        raise UserError(f"{jobs.path} asks for {jobs.count:.3g} jobs; a plan holds at most {TOO_MANY:,}.")
    given = parse_settings(settings)
    known = {key for entry in jobs.entries for key in config_class(entry.command).model_fields}
    problems = [f"{key}: no job's command has this key." for key in given if key not in known]
    plan: list[Planned] = []
    for entry in jobs.entries:
        try:
            plan += _planned(entry, root, settings)
        except ConfigError as error:
            problems += error.problems
    problems += _duplicates(plan) + _missing_files(plan)
    if problems:
        raise ConfigError(shortened(problems))
    order = {network: number for number, network in enumerate(dict.fromkeys(job.network for job in plan))}
    return sorted(plan, key=lambda job: order[job.network])


def _planned(entry: Entry, root: str, settings: Sequence[str]) -> list[Planned]:
    schema = config_class(entry.command)
    own = [word for word in settings if word.partition("=")[0].strip().partition(".")[0] in schema.model_fields]
    over = parse_settings(own, schema)
    variables = environment_settings(schema, os.environ)
    origins = variables_of(variables) | dict.fromkeys(over, "command line")
    over = merge(variables, over)
    below = merge(entry.defaults, entry.settings)
    # What is said for many jobs is meant for those where it means something; of an entry's own settings at least for one.
    shared = entry.settings.keys() - over.keys() if entry.axes else set()
    general = (over.keys() | entry.defaults.keys() | shared) - (entry.settings.keys() - shared)
    idle: set[str] = {*shared}
    folder = _folder(entry, root)
    problems: list[str] = []

    def build(point: Point) -> CommandConfig | None:
        try:
            values = merge(merge(below, point), over)
            kept = without_idle(schema, values, general - (point.keys() - over.keys()))
            config = build_config(schema, kept, origins)
            idle.intersection_update(values.keys() - kept.keys())
            return config
        except ConfigError as error:
            problems.extend(f"{entry.place}{_marked(point, error)}.{problem}" for problem in error.problems)
            return None

    told = _untold(entry, build) if entry.axes else []
    jobs = []
    for point in entry.points():
        config = build(point)
        if config is None:
            continue
        try:
            name = _name(config, point, told)
        except (KeyError, ValueError, TypeError) as error:
            problems.append(f"{entry.place}.name: {brief(repr(config.name))} cannot be filled in: {brief(error, 200)}.")
            continue
        if name != config.name:
            config = config.model_copy(update={"name": name})
        jobs.append(Planned(entry.place + _marked(point), entry.command, config, folder))
    problems += [f"{entry.place}.{key}: has no effect in any of its {entry.count} jobs." for key in sorted(idle) if jobs]
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return jobs


def _marked(point: Point, error: ConfigError | None = None) -> str:
    """The values of a point for a message; with an error only those it is about, so that the same mistake is told once."""
    about = {k: v for k, v in point.items() if error is None or any(p.startswith((f"{k}:", f"{k}.")) for p in error.problems)}
    return f" [{', '.join(f'{key}={value}' for key, value in about.items())}]" if about else ""


def _untold(entry: Entry, build: Any) -> list[str]:
    """The keys of the axes along which the file name would stay the same; they are added to it."""
    first = [next(iter(axis)) for axis in entry.axes]
    untold = []
    for number, axis in enumerate(entry.axes):
        names = set()
        for value in axis:
            point = {k: v for part in (*first[:number], value, *first[number + 1 :]) for k, v in part.items()}
            config = build(point)
            names.add(None if config is None else config.name or config.slug())
        if len(names) < len(axis):
            untold += list(axis.values)
    return untold


def _name(config: CommandConfig, point: Point, untold: Sequence[str]) -> str:
    """`name: "{model}-{seed}"` is filled in; otherwise what the name does not tell of the point is added."""
    if "{" in config.name:
        return _filled(config.name, {key: _word(value) for key, value in config.model_dump().items()})
    shown = [f"{key}={_word(point[key])}" for key in untold]
    return "_".join([config.name or config.slug(), *shown]) if shown else config.name


def _filled(name: str, values: Mapping[str, Any]) -> str:
    """`{model}-{seed:03d}` with the values of the keys. Raises KeyError and ValueError for all that is more than that."""
    text = ""
    for literal, field, spec, conversion in string.Formatter().parse(name):
        text += literal
        if field is None:
            continue
        if field not in values:
            raise KeyError(f"there is no key {brief(field)}")
        if conversion or not _SPEC.fullmatch(spec or ""):
            raise ValueError(f"{{{field}:...}} takes a width and a kind, as in {{seed:03d}}")
        text += format(values[field], spec or "")
    if len(text.encode("utf-8", "surrogateescape")) > MOST_NAME_BYTES:
        raise ValueError(f"it would be longer than {MOST_NAME_BYTES} bytes")
    return text


def _word(value: Any) -> Any:
    """A setting in a file name: of a file or a sample its name alone."""
    if isinstance(value, list | tuple):
        return "+".join(str(_word(item)) for item in value)
    if not isinstance(value, str):
        return value
    return Path(value).stem if must_be_there(value) else value.removeprefix("sample:")


def _duplicates(plan: Iterable[Planned]) -> list[str]:
    seen: dict[str, Planned] = {}
    problems = []
    for job in plan:
        other = seen.setdefault(job.sidecar, job)
        if other is not job:
            what = "are the same job" if other.hash == job.hash else f"would both write {job.sidecar}"
            problems.append(
                f'{other.place} and {job.place} {what}. Give them names, e.g. name: "{{model}}-{{seed}}", or an `out`.'
            )
    return problems


def _missing_files(plan: Iterable[Planned]) -> list[str]:
    """Settings that are written like paths and lead nowhere."""
    problems = {}
    for job in plan:
        for key, value in job.config.model_dump().items():
            for item in value if isinstance(value, list | tuple) else [value]:
                if isinstance(item, str) and key != "name" and must_be_there(item) and not _there(item):
                    problems[job.place.partition(" [")[0], key, item] = f"{job.place}.{key}: no file '{item}'"
    return list(problems.values())


def _there(path: str) -> bool:
    weights = model_and_weights(path)[1]
    if weights and _there(weights):
        return True
    return any(mark in path for mark in "*?[") or os.path.exists(expanded(path))  # noqa: PTH110 - Path.exists raises for long names


def shortened(problems: Sequence[str]) -> list[str]:
    """The first lines, and how many more there are."""
    more = len(problems) - _LINES_SHOWN
    return [*problems[:_LINES_SHOWN], *([f"... and {more} more."] if more > 0 else [])]


def parse_shard(text: str) -> tuple[int, int]:
    """`2/8` is the second of eight parts."""
    part, slash, parts = text.partition("/")
    digits = re.compile("[0-9]{1,9}")
    if not (slash and digits.fullmatch(part) and digits.fullmatch(parts) and 1 <= int(part) <= int(parts)):
        raise UserError(f"--shard {text}: must be I/N with I from 1 to N, e.g. 1/8.")
    return int(part), int(parts)


def partition(plan: Sequence[Planned], *, overwrite: bool) -> tuple[list[Planned], list[Planned]]:
    """(to do, done): done is what has a sidecar of the same config with all its files.

    Raises ConfigError for results of other configs that would be lost, unless `overwrite`.
    """
    if overwrite:
        return list(plan), []
    todo: list[Planned] = []
    done: list[Planned] = []
    problems = []
    for job in plan:
        old = read_result(job.folder, job.name)
        if old is None:
            todo.append(job)
        elif old.record.config_hash == job.hash:
            (done if old.complete else todo).append(job)
        else:
            differs = difference(old.record.config, job.config.model_dump(mode="json"))
            problems.append(f"{job.sidecar} is the result of another config ({differs}). Use --overwrite or another --out.")
    if problems:
        raise ConfigError(shortened(problems))
    return todo, done


def _folder(entry: Entry, root: str) -> str:
    """Of a job's results: within the root, or where an absolute `out` says."""
    if "://" in entry.out or expanded(entry.out).is_absolute():
        return place_of(entry.out, Path())
    if Path(os.path.normpath(entry.out)).parts[:1] == ("..",):
        raise ConfigError([f"{entry.place}.out: '{entry.out}' leaves the batch's folder. An absolute one may."])
    return f"{root}/{entry.out}"
