"""The keys of a config in words, and a config as YAML."""

from __future__ import annotations

import textwrap
import typing
from typing import Any, Literal

import yaml
from pydantic_core import PydanticUndefined

from cnnvis_cli.config.base import CommandConfig
from cnnvis_cli.config.conditions import show_value


def key_rows(schema: type[CommandConfig]) -> list[tuple[str, str, str]]:
    """(key, default, description) of a config, in the order of the class."""
    rows = []
    for key, field in schema.model_fields.items():
        default = "" if field.default is PydanticUndefined else show_value(field.default)
        choices = _choices(field.annotation)
        about = " ".join(part for part in (field.description or "", f"({' | '.join(choices)})" if choices else "") if part)
        needs = " and ".join(map(str, schema.belongs.get(key, ())))
        rows.append((key, default, f"{about} [{needs}]" if needs else about))
    return rows


def _choices(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is Literal:
        return [str(choice) for choice in typing.get_args(annotation)]
    return [choice for part in typing.get_args(annotation) if part is not type(None) for choice in _choices(part)]


def key_lines(schema: type[CommandConfig], width: int = 110) -> list[str]:
    """The table of keys for `--help`."""
    rows = [(f"{key}={default}", about) for key, default, about in key_rows(schema)]
    column = min(36, max(len(left) for left, _ in rows))
    lines = []
    for left, about in rows:
        wrapped = textwrap.wrap(about, width - column - 5) or [""]
        first = [] if len(left) <= column else [f"  {left}"]
        head = left if not first else ""
        lines += [*first, f"  {head:<{column}}  {wrapped[0]}", *(f"  {'':<{column}}  {rest}" for rest in wrapped[1:])]
    return lines


def config_yaml(command: str, config: CommandConfig) -> str:
    """The resolved config as YAML that can be run again."""
    values = {"command": command, **config.model_dump(mode="json")}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
