"""Names of a network's classes: one for each number it answers with, told apart, found by name or number. Imports no torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cnnvis_cli.engine.errors import Refused, UserError, did_you_mean, shortened

if TYPE_CHECKING:
    from cnnvis_cli.engine.network.outputs import Reading


def labels_of(names: Sequence[str], reading: Reading) -> tuple[str, ...]:
    """A name for each class, or none at all. Twins get their number: `crane (134)` and `crane (517)`.

    A single name for a single logit stands for yes. Raises Refused where there are not as many names as classes.
    """
    if reading.binary and len(names) == 1:
        names = [f"not {names[0]}", names[0]]
    if names and len(names) != reading.classes:
        raise Refused("classes", f"it has {len(names)} class names ({names[0]}, ...) for {reading.classes} answers")
    twins = {name for name, count in Counter(map(_plain, names)).items() if count > 1}
    return tuple(f"{name} ({index})" if _plain(name) in twins else name for index, name in enumerate(names))


def find_class(labels: Sequence[str], name: str | int, owner: str) -> int:
    """Index of a class among `labels` by number or by name (case and underscores ignored; one of several synonyms is enough).

    `owner` is whose they are, for the error. Raises UserError where there is none, or more than one of that name.
    """
    text = str(name).strip()
    if re.fullmatch(r"-?[0-9]{1,18}", text):
        if text in labels:
            return list(labels).index(text)
        if 0 <= int(text) < len(labels):
            return int(text)
        raise UserError(f"class {text} is out of range: {owner} has classes 0 to {len(labels) - 1}.")
    wanted = _plain(text)
    whole = [index for index, label in enumerate(labels) if _plain(label) == wanted]
    found = whole or [
        index
        for index, label in enumerate(labels)
        if wanted in (_plain(part) for part in label.split(",")) or _plain(label) == f"{wanted} ({index})"
    ]
    if len(found) > 1:
        those = ", ".join(f"{index} ({labels[index]})" for index in found[:5])
        raise UserError(f"{owner} has {len(found)} classes called '{shortened(text)}': {those}. Name one by its number.")
    if not found:
        raise UserError(f"{owner} knows no class '{shortened(text)}'.{did_you_mean(text, labels)}")
    return found[0]


def _plain(label: str) -> str:
    return label.lower().replace("_", " ").strip()
