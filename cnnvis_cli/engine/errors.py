"""What the engine raises for a user's mistake. The message is one clear line that names the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what was asked for (exit 2): unknown layer, class out of range, missing file."""


class Refused(UserError):
    """A network that cannot be looked at. `kind`: of the reason, so that who knows where it came from can add the remedy."""

    def __init__(self, kind: str, fact: str) -> None:
        super().__init__(fact)
        self.kind, self.fact = kind, fact


class UnknownLayer(UserError):
    """A layer that the `network` of that name has not."""

    def __init__(self, message: str, network: str) -> None:
        super().__init__(message)
        self.network = network


class SizeError(UserError):
    """A network takes no pictures of the size that was asked for. The message says which it takes."""


class RunError(RuntimeError):
    """The run itself failed (exit 1): disk full, out of memory, an evaluator that died."""


class OutOfMemory(RunError):
    """The device or the machine has no memory left for this; a smaller batch may fit."""


def shortened(value: object, most: int = 80) -> str:
    """A value in a message: its middle is left out where it is long, and lines become one."""
    text = str(value).replace("\n", " ").replace("\0", "\ufffd")
    return text if len(text) <= most else f"{text[: most - 20]}...{text[-10:]}"


def did_you_mean(word: str, known: Iterable[str], count: int = 3) -> str:
    """` Did you mean 'a' or 'b'?` for names close to `word`, else an empty string."""
    word, known = word[:80], list(known)
    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), list(lowered), count, 0.6)
    close += [low for low in lowered if word.lower() in low and low not in close][: count - len(close)]
    return f" Did you mean {' or '.join(repr(lowered[c]) for c in close)}?" if close else ""
