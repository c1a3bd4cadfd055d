"""Words of a command line that stand above others: a key twice is refused by the command itself."""

from __future__ import annotations

from collections.abc import Iterable


def over(words: Iterable[str], *more: str) -> list[str]:
    """The `words`, but for the keys that `more` gives, and then those."""
    given = {word.partition("=")[0] for word in more if "=" in word}
    return [*(word for word in words if word.partition("=")[0] not in given), *more]
