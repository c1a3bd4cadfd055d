"""What is wrong with a config, in a user's words: a line for each problem that pydantic finds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from cnnvis_cli.errors import did_you_mean, shortened

# By pydantic's type of a problem; its `ctx` fills them in.
_WANTED = {
    "int_parsing": "a whole number is wanted",
    "int_type": "a whole number is wanted",
    "int_from_float": "a whole number is wanted",
    "float_parsing": "a number is wanted",
    "float_type": "a number is wanted",
    "finite_number": "a finite number is wanted",
    "bool_parsing": "true or false is wanted",
    "bool_type": "true or false is wanted",
    "string_type": "text is wanted",
    "tuple_type": "a list is wanted",
    "list_type": "a list is wanted",
    "dict_type": "keys with values are wanted",
    "greater_than_equal": "at least {ge} is wanted",
    "greater_than": "a value greater than {gt} is wanted",
    "less_than_equal": "at most {le} is wanted",
    "less_than": "less than {lt} is wanted",
    "literal_error": "{expected} is wanted",
    "too_short": "at least {min_length} are wanted, not {actual_length}",
    "too_long": "at most {max_length} are wanted, not {actual_length}",
}


def wanted(problem: Any) -> str:
    """What one problem (of `ValidationError.errors()`) asks for; pydantic's own words where there are none of ours."""
    words = _WANTED.get(problem["type"])
    if words is None:
        message = problem["msg"].removeprefix("Value error, ").rstrip(".")
        return message[:1].lower() + message[1:]
    return words.format(**{key: _plain(value) for key, value in problem.get("ctx", {}).items()})


def _plain(value: Any) -> Any:
    return f"{value:g}" if isinstance(value, float) else value


def lines_about(schema: type[BaseModel], problem: Any, origins: Mapping[str, str]) -> list[str]:
    """The lines of one problem, each with its dotted path, what was given and, by `origins`, where it stands."""
    path = shortened(".".join(str(part) for part in problem["loc"]))
    if problem["type"] == "no_effect":
        return [_placed(reason, key, origins) for key, reason in problem["ctx"]["refused"].items()]
    key = str(problem["loc"][0]) if problem["loc"] else ""
    if problem["type"] == "extra_forbidden":
        return [_placed(f"{path}: unknown key", key, origins) + "." + did_you_mean(key[:80], schema.model_fields)]
    message = wanted(problem)
    given = problem.get("input")
    if problem["type"] == "literal_error":
        message += "." + did_you_mean(str(given)[:80], re.findall(r"'([^']+)'", problem["msg"]))
        message = message.rstrip(".")
    shown = f"given: {shortened(repr(given))}" if path and isinstance(given, str | int | float | bool) else ""
    notes = "; ".join(note for note in (shown, origins.get(key, "")) if note)
    return [f"{path or 'config'}: {message}" + (f" ({notes})" if notes else "")]


def _placed(text: str, key: str, origins: Mapping[str, str]) -> str:
    return f"{text} ({origins[key]})" if key in origins else text
