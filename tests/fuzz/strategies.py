"""What the fuzz draws from. `FUZZ_EXAMPLES` sets how many examples each test takes (`make fuzz`: 20,000).

Without it the examples are the same at every run, so that the suite says the same at every run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from cnnvis_cli.errors import RunError, UserError, in_words

FEW = 300
_ASKED = os.environ.get("FUZZ_EXAMPLES")

# Ten seconds for one example is a hang.
fuzz = settings(
    max_examples=int(_ASKED or FEW),
    derandomize=_ASKED is None,
    database=None,
    deadline=10_000,
    suppress_health_check=list(HealthCheck),
)

_HOSTILE = (
    *(
        "",
        " ",
        "0",
        "-0",
        "010",
        "08",
        "1e999",
        "-1e999",
        "1e-999",
        "nan",
        ".inf",
        "true",
        "null",
        "~",
        "[",
        "]",
        "{",
        "{}",
        "[]",
    ),
    *(
        "9" * 30,
        "9" * 5000,
        "²",
        "٣",
        "½",
        "1.2.3",
        "0x10",
        "1_000",
        "1/0",
        "1/255",
        "4/",
        "/",
        "a,b",
        ",,,",
        "128x",
        "9x9",
        "1h",
    ),
    *(
        "\0",
        "\n",
        "\t",
        "\ud800",
        "\u202e",
        "é" * 300,
        "x" * 5000,
        "../..",
        "/",
        "~",
        "~nobody-of-that-name/x",
        "**.png",
        "***",
    ),
    *(
        "sample:",
        "sample:cat",
        "sample:*",
        "noise",
        "none",
        "all",
        "auto",
        "{model[x]}",
        "{seed:>2000000000}",
        "{",
        "%s",
        "a/b.png",
    ),
    *(
        "http://[::1",
        "file.onnx",
        "timm:",
        "a.b:c",
        ":",
        "::",
        "s3://",
        "*",
        "?",
        "'",
        '"',
        "\"'",
        "\\",
        "#",
        "- a",
        "a: b",
        "&a",
        "*a",
    ),
    *("[" * 300, "{a: " * 300, "!!python/object:x", "<<: *a", "? a", "minivgg", "class:1", "layer:conv4_1", "@", "x@y"),
)
texts = st.one_of(st.sampled_from(_HOSTILE), st.text(max_size=20), st.integers().map(str), st.floats().map(repr))
scalars = st.one_of(
    texts,
    st.booleans(),
    st.none(),
    st.integers(),
    st.integers(-3, 300),
    st.sampled_from([10**30, -(10**30), 2**63, 2**63 - 1, 10**400]),
    st.floats(),
    st.floats(0, 1),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts.map(lambda text: text[:40]), inner, max_size=4)),
    max_leaves=8,
)


def damaged(originals: list[bytes]) -> st.SearchStrategy[bytes]:
    """One of the files with bytes changed, cut off, put in or doubled; or no such file at all."""
    edits = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10**6), st.binary(min_size=1, max_size=8)), max_size=6)

    def edited(original: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
        data = bytearray(original)
        for kind, where, what in changes:
            place = where % (len(data) + 1)
            if kind == 0:
                data[place : place + len(what)] = what
            elif kind == 1:
                del data[place:]
            elif kind == 2:
                data[place:place] = what
            else:
                data[place:place] = data[: min(place, 200)]
        return bytes(data)

    return st.one_of(st.builds(edited, st.sampled_from(originals), edits), st.binary(max_size=200))


def attempt(action: Callable[[], Any]) -> Any:
    """What it gives, or None where it ends in an error that a user is shown, in short lines. All else is a bug."""
    try:
        return action()
    except (UserError, RunError) as error:
        problems = in_words(error)
        assert problems
        for problem in problems:
            assert problem
            assert len(problem) < 2500, problem[:300]
            assert "\n" not in problem
        return None
