"""From a YAML file, the environment and `key=value` to one typed config, with all errors at once.

Precedence: flag > key=value > CNNVIS_KEY > file > preset > default. One YAML reader serves files and values alike.
"""

from __future__ import annotations

import json
import os
import re
import typing
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from cnnvis_cli.config.base import CommandConfig
from cnnvis_cli.config.problems import lines_about
from cnnvis_cli.config.variables import check_variables, variables_of
from cnnvis_cli.errors import ConfigError, UserError, did_you_mean, shortened
from cnnvis_cli.files.bundled import configs_folder

C = TypeVar("C", bound=CommandConfig)


# No config comes near these; the bombs that YAML's aliases make do.
_MOST_VALUES, _MOST_LEVELS = 1_000_000, 50


class _Int(int):
    """A whole number that remembers how it was written: `001` is the word 001 where a word is wanted."""

    text: str


class _Float(float):
    text: str


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars: `1e-3` is a number, `no` and `on` are words, `1:30` is not a number of seconds. No key twice."""

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        try:
            str(value).encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise yaml.MarkedYAMLError(problem="half of a character stands there", problem_mark=node.start_mark) from None
        return value

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for written, _ in node.value:
            key = self.construct_object(written, deep=True)
            if isinstance(key, dict | list):
                raise yaml.MarkedYAMLError(problem="a key is a list or a mapping", problem_mark=written.start_mark)
            if key in keys:
                raise yaml.MarkedYAMLError(problem=f"'{shortened(key)}' stands twice", problem_mark=written.start_mark)
            keys.add(key)
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
        value = yaml.load(text, Loader=_Loader)
        _measure(value)
        return value
    except RecursionError:
        raise UserError(f"{where} is nested too deeply.") from None
    except ValueError as error:
        raise UserError(f"{where} {error}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        raise UserError(f"{where}{place} is not YAML: {shortened(getattr(error, 'problem', None) or error, 200)}.") from None


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file. A config is YAML in UTF-8.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {shortened(path)}: {getattr(error, 'strerror', None) or error}.") from None


def _measure(value: Any, above: tuple[int, ...] = (), known: dict[int, int] | None = None) -> int:
    """How many values there are in a value, those that aliases repeat counted each time.

    Raises ValueError for too many of them, too many levels, or a circle.
    """
    known = {} if known is None else known
    if not isinstance(value, dict | list):
        return 1
    if id(value) in above:
        raise ValueError("goes round in a circle")
    if len(above) > _MOST_LEVELS:
        raise ValueError(f"has more than {_MOST_LEVELS} levels")
    if id(value) not in known:
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_measure(part, (*above, id(value)), known) for part in parts)
    if known[id(value)] > _MOST_VALUES:
        raise ValueError(f"has more than {_MOST_VALUES:,} values")
    return known[id(value)]


def named_configs() -> dict[str, Path]:
    """The bundled examples by name: `maximize/class`."""
    root = configs_folder()
    return {str(path.relative_to(root).with_suffix("")): path for path in sorted(root.rglob("*.yaml"))}


def find_config(name: str, command: str) -> Path:
    """A path, or the name of a bundled example (`class` or `maximize/class`)."""
    path = Path(name)
    if os.path.isfile(name):  # noqa: PTH113 - Path.is_file raises for names that are too long
        return path
    known = named_configs()
    short = name.removesuffix(".yaml")
    for candidate in (short, f"{command}/{short}"):
        if candidate in known:
            return known[candidate]
    hint = did_you_mean(short, [key.removeprefix(f"{command}/") for key in known if key.startswith(f"{command}/")])
    raise UserError(f"no config file '{shortened(name)}'.{hint} `cnnvis configs list` shows the bundled ones.")


def read_config_file(path: Path, command: str) -> dict[str, Any]:
    """The mapping of a YAML config, or the resolved config out of a result's JSON."""
    text = read_text(path)
    if path.suffix == ".json":
        try:
            values = json.loads(text)
            _measure(values)
        except (ValueError, RecursionError):
            raise UserError(f"{path} is not JSON that can be read.") from None
        if not isinstance(values, dict) or not isinstance(values.get("config"), dict):
            raise UserError(f"{path} is not the JSON beside a result: it has no 'config'.")
        values = {"command": values.get("command", command), **values["config"]}
    else:
        values = parse_yaml(text, str(path))
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise UserError(f"{path} must be a mapping of keys to values, not a {type(values).__name__}.")
    if (of := values.pop("command", command)) != command:
        of = shortened(of)
        raise UserError(f"{path} is a config of '{of}', not of '{command}'. Run: cnnvis {of} -c {path}")
    return values


def parse_settings(settings: Sequence[str], schema: type[BaseModel] | None = None) -> dict[str, Any]:
    """`key=value` words; a dotted key reaches into a nested one.

    Text stays text: a value is read as YAML only where the schema's key wants a number, a list or a mapping (and every value
    where there is no schema), and is text where that fails.
    """
    values: dict[str, Any] = {}
    keys = [word.partition("=")[0].strip() for word in settings]
    twice = [key for key in dict.fromkeys(keys) if sum(other == key or other.startswith(f"{key}.") for other in keys) > 1]
    if twice:
        raise ConfigError([f"{shortened(key)} stands twice on the command line." for key in twice])
    for word in settings:
        key, equals, text = word.partition("=")
        if not equals or not key.strip():
            raise UserError(f"'{shortened(word)}' is not of the form KEY=VALUE.{_meant(word, schema)}")
        if key.count(".") > _MOST_LEVELS:
            raise UserError(f"'{shortened(word)}' has more than {_MOST_LEVELS} levels.")
        value = _value(key.strip(), text, schema)
        *parents, last = key.strip().split(".")
        target = values
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise UserError(f"'{shortened(word)}': '{shortened(parent)}' already has a value.")
        target[last] = value if text else ""
    return values


def _meant(word: str, schema: type[BaseModel] | None) -> str:
    """Which key a value alone may have been meant for: a file is a picture."""
    keys = [key for key in ("image", "content", "exemplar", "images") if schema is not None and key in schema.model_fields]
    return f" Did you mean {keys[0]}={shortened(word)}?" if keys and "." in word and not word.startswith("-") else ""


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
    check_variables(schema, environment)
    found = {key: environment[name] for key, name in variables_of(schema.model_fields).items() if name in environment}
    return parse_settings([f"{key}={value}" for key, value in found.items()], schema)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` wins; nested mappings are merged key by key."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def build_config(schema: type[C], values: Mapping[str, Any], origins: Mapping[str, str] = MappingProxyType({})) -> C:
    """Validate. Raises ConfigError with a line per problem, each with its dotted path and, by `origins`, where the key's value
    came from."""
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError([line for problem in error.errors() for line in lines_about(schema, problem, origins)]) from None


def without_idle(schema: type[C], values: Mapping[str, Any], general: Set[str]) -> dict[str, Any]:
    """The values but for those of the `general` keys that have no effect beside the others: what was said for all commands at
    once is meant for those where it means something."""
    kept = dict(values)
    while general & kept.keys():
        try:
            schema.model_validate(kept)
            break
        except ValidationError as error:
            idle = {key for problem in error.errors() for key in problem.get("ctx", {}).get("refused", ())}
        if not idle & general & kept.keys():
            break
        kept = {key: value for key, value in kept.items() if key not in idle or key not in general}
    return kept


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
    path = find_config(config, command) if config else None
    filed = read_config_file(path, command) if path else {}
    general = environment_settings(schema, os.environ if environment is None else environment)
    typed = parse_settings(settings, schema)
    flagged = {key: value for key, value in (flags or {}).items() if value is not None}
    values = merge(merge(merge(filed, general), typed), flagged)
    values = without_idle(schema, values, general.keys() - typed.keys() - flagged.keys())
    try:
        return build_config(schema, values)
    except ConfigError:  # said once more, with what is only looked up now
        places = {key: f"{path}, line {line}" for key, line in _lines_of(path).items()} if path else {}
        origins = {key: places.get(key, str(path)) for key in filed} | variables_of(general)
        origins |= dict.fromkeys(typed, "command line") | {key: f"--{key}" for key in flagged}
        return build_config(schema, values, origins)


def _lines_of(path: Path) -> dict[str, int]:
    """In which line of a YAML file each key stands."""
    if path.suffix == ".json":
        return {}
    node = yaml.compose(read_text(path), Loader=_Loader)
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return {str(key.value): key.start_mark.line + 1 for key, _ in pairs}
