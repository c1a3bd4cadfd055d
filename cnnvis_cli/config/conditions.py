"""What a key belongs to: the values of other keys without which it has no effect. Declared once, for refusals and `--help`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Condition:
    """Holds where the value of `key` (a key or a property of the config), or one of several, is among `values`, or with `other`
    is none of them.

    `words`: what the key belongs to, where that is not KEY=VALUE. `instead`: what is the case where it does not hold. `named`:
    the key as a user knows it, where `key` is a property.
    """

    key: str
    values: tuple[Any, ...]
    other: bool = False
    words: str = ""
    instead: str = ""
    named: str = ""

    def holds(self, config: Any) -> bool:
        now = getattr(config, self.key)
        several = now if isinstance(now, tuple) else ()
        return any(now == value or value in several for value in self.values) != self.other

    def __str__(self) -> str:
        if self.words:
            return self.words
        if not self.other:
            return f"{self.named or self.key}={' or '.join(map(show_value, self.values))}"
        if isinstance(number := self.values[0], int | float):
            return f"{self.key} above {number:g}"
        named = [value for value in self.values if value]
        return f"{self.key} other than {' or '.join(map(show_value, named))}" if named else f"{self.key}=..."

    def refusal(self, key: str, config: Any) -> str:
        """Why `key` is of no use in a config where this does not hold."""
        value = getattr(config, self.key)
        shown, name = show_value(value), self.named or self.key
        now = self.instead or (f"with {name}={shown}" if shown else f"without {name}")
        return f"{key} has no effect {now}: it belongs to {self}"


def only_with(key: str, *values: Any) -> Condition:
    """The value of `key` must be one of these."""
    return Condition(key, values)


def other_than(key: str, *values: Any) -> Condition:
    """The value of `key` must be none of these."""
    return Condition(key, values, other=True)


def above(key: str, off: float = 0) -> Condition:
    """`key` must be a number above what turns it off."""
    return Condition(key, (off,), other=True)


def given(key: str) -> Condition:
    """`key` must have a value at all."""
    return Condition(key, ("", None, ()), other=True)


def show_value(value: Any) -> str:
    """A value as one would write it after `key=`."""
    if isinstance(value, tuple | list):
        return ",".join(show_value(item) for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
