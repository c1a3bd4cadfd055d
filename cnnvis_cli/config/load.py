"""From a YAML file, the environment and `key=value` to one typed config, with all errors at once.

Precedence: flag > key=value > CNNVIS_KEY > file > preset > default. One YAML reader serves files and values alike.
"""

from __future__ import annotations

import json
import os
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from cnnvis_cli.config.base import CommandConfig
from cnnvis_cli.errors import ConfigError, UserError, did_you_mean
from cnnvis_cli.files.bundled import configs_folder

C = TypeVar("C", bound=CommandConfig)


class _Int(int):
    """A whole number that remembers how it was written: `001` is the word 001 where a word is wanted."""

    text: str


class _Float(float):
    text: str


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars: `1e-3` is a number, `no` and `on` are words, `1:30` is not a number of seconds. No key twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(problem=f"'{key}' stands twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def _number(kind: Any) -> Any:
    def construct(loader: yaml.SafeLoader, node: Any) -> Any:
        text = loader.construct_scalar(node)
        try:
            value = kind(text)
        except (ValueError, OverflowError):
            return text
        value.text = text
        return value

    return construct


_Loader.add_constructor("tag:yaml.org,2002:int", _number(_Int))
_Loader.add_constructor("tag:yaml.org,2002:float", _number(_Float))
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text. Raises UserError that names `where` and the line."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        raise UserError(f"{where}{place} is not YAML: {getattr(error, 'problem', None) or error}.") from None


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file. A config is YAML in UTF-8.") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}.") from None


def named_configs() -> dict[str, Path]:
    """The bundled examples by name: `maximize/class`."""
    root = configs_folder()
    return {str(path.relative_to(root).with_suffix("")): path for path in sorted(root.rglob("*.yaml"))}


def find_config(name: str, command: str) -> Path:
    """A path, or the name of a bundled example (`class` or `maximize/class`)."""
    path = Path(name)
    if path.is_file():
        return path
    known = named_configs()
    short = name.removesuffix(".yaml")
    for candidate in (short, f"{command}/{short}"):
        if candidate in known:
            return known[candidate]
    hint = did_you_mean(short, [key.removeprefix(f"{command}/") for key in known if key.startswith(f"{command}/")])
    raise UserError(f"no config file '{name}'.{hint} `cnnvis configs list` shows the bundled ones.")


def read_config_file(path: Path, command: str) -> dict[str, Any]:
    """The mapping of a YAML config, or the resolved config out of a result's JSON."""
    text = read_text(path)
    if path.suffix == ".json":
        try:
            values = json.loads(text)
        except json.JSONDecodeError:
            raise UserError(f"{path} is not JSON.") from None
        if not isinstance(values, dict) or "config" not in values:
            raise UserError(f"{path} is not the JSON beside a result: it has no 'config'.")
        values = {"command": values.get("command", command), **values["config"]}
    else:
        values = parse_yaml(text, str(path))
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise UserError(f"{path} must be a mapping of keys to values, not a {type(values).__name__}.")
    if (of := values.pop("command", command)) != command:
        raise UserError(f"{path} is a config of '{of}', not of '{command}'. Run: cnnvis {of} -c {path}")
    return values


def parse_settings(settings: Sequence[str], schema: type[BaseModel] | None = None) -> dict[str, Any]:
    """`key=value` words; a dotted key reaches into a nested one.

    Text stays text: a value is read as YAML only where the schema's key wants a number, a list or a mapping (and every value
    where there is no schema), and is text where that fails.
    """
    values: dict[str, Any] = {}
    for word in settings:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UserError(f"'{word}' is not of the form KEY=VALUE.")
        value = _value(key.strip(), text, schema)
        *parents, last = key.strip().split(".")
        target = values
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise UserError(f"'{word}': '{parent}' already has a value.")
        target[last] = value if text else ""
    return values


def _value(key: str, text: str, schema: type[BaseModel] | None) -> Any:
    field = schema.model_fields.get(key) if schema is not None else None
    wants = _wants(field.annotation) if field is not None else "any"
    if wants == "text":
        return _unquoted(text)
    if wants == "words":
        flat = text.strip()
        listed = flat.startswith("[") and flat.endswith("]") and not os.path.lexists(text)
        found = _yaml_or_text(key, text) if listed else text
        return found if isinstance(found, list) else _unquoted(text)
    return _yaml_or_text(key, text)


def _yaml_or_text(key: str, text: str) -> Any:
    try:
        return parse_yaml(text, key)
    except UserError:
        return text  # e.g. an objective with '[': the schema says what is wrong with it, if anything


def _unquoted(text: str) -> str:
    """Without one pair of quotes around the whole, as YAML would read it; not around what is a file."""
    flat = text.strip()
    quoted = len(flat) > 1 and flat[0] == flat[-1] and flat[0] in "\"'" and flat[0] not in flat[1:-1]
    return flat[1:-1] if quoted and not os.path.lexists(text) else text


def _wants(annotation: Any) -> Literal["text", "words", "any"]:
    """Whether a key's values are text, or lists of text, and nothing else."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _wants(arguments[0])
    if annotation is str or (origin is Literal and all(isinstance(choice, str) for choice in arguments)):
        return "text"
    if origin is tuple and arguments and _wants(arguments[0]) == "text":
        return "words"
    return "any"


def environment_settings(schema: type[CommandConfig], environment: Mapping[str, str]) -> dict[str, Any]:
    """`CNNVIS_STEPS=100` sets `steps` for every command that has it."""
    found = {key: environment[f"CNNVIS_{key.upper()}"] for key in schema.model_fields if f"CNNVIS_{key.upper()}" in environment}
    return parse_settings([f"{key}={value}" for key, value in found.items()], schema)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` wins; nested mappings are merged key by key."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def build_config(schema: type[C], values: Mapping[str, Any]) -> C:
    """Validate. Raises ConfigError with a line per problem, each with its dotted path."""
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError([_line(schema, problem) for problem in error.errors()]) from None


def _line(schema: type[BaseModel], problem: Any) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{path}: unknown key.{did_you_mean(str(problem['loc'][-1]), schema.model_fields)}"
    message = problem["msg"].removeprefix("Value error, ").rstrip(".")
    given = problem.get("input")
    if problem["type"] == "literal_error":
        message += "." + did_you_mean(str(given), re.findall(r"'([^']+)'", problem["msg"]))
        message = message.rstrip(".")
    shown = f" (given: {given!r})" if path and isinstance(given, str | int | float | bool) else ""
    return f"{path or 'config'}: {message[0].lower() + message[1:]}{shown}"


def load_config(
    schema: type[C],
    command: str,
    *,
    config: str | None = None,
    settings: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> C:
    """The config of one run, from all its sources."""
    values = read_config_file(find_config(config, command), command) if config else {}
    values = merge(values, environment_settings(schema, os.environ if environment is None else environment))
    values = merge(values, parse_settings(settings, schema))
    return build_config(schema, merge(values, {k: v for k, v in (flags or {}).items() if v is not None}))
