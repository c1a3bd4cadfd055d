"""The language in which a user writes objectives.

channel:conv4_1:17                     mean of a channel          neuron:conv4_1:17:3:5    one unit (y, x; default: middle)
layer:conv4_1                          a whole layer              direction:conv4_1:V      a direction of its channel space
class:elephant  (or a number)          a class logit              prob:elephant            its (log-)probability
contrast:elephant                      the class logit minus the mean of the others
channel:conv4_1:17 - 0.5*channel:conv4_1:3     sums and differences, with weights
channel:conv3_1:0-63  channel:conv3_1:1,5,9    several at once, one picture each
class:elephant; class:face             several at once
class:"salt; pepper - 1:2"             a name that holds such marks stands in quotes
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from cnnvis_cli.engine.errors import UserError, shortened
from cnnvis_cli.engine.network.layers import Layer
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim import objectives
from cnnvis_cli.engine.optim.objectives import Objective
from cnnvis_cli.engine.quoting import QUOTED

KINDS = ("channel", "neuron", "layer", "direction", "class", "logit", "prob", "contrast")
_OF_CLASSES = {
    "class": objectives.class_logit,
    "logit": objectives.class_logit,
    "prob": objectives.class_probability,
    "contrast": objectives.class_contrast,
}
ReadVector = Callable[[str], Tensor]


@dataclass(frozen=True)
class _Context:
    """What the words of an objective are read with."""

    network: Network
    read_vector: ReadVector | None
    of_classes: Mapping[str, Callable[[Network, int], Objective]]


def parse_objectives(
    text: str, network: Network, read_vector: ReadVector | None = None, *, against_others: bool = False
) -> list[Objective]:
    """All objectives that a text names, one per picture. Raises UserError that says what is wrong and what would be right.

    `against_others`: a class's logit is taken less the mean of the others', as `contrast` does.
    `read_vector` gives the vector (C,) of a `direction:LAYER:V` whose V is not a list of numbers (a file, say).
    """
    kinds = _OF_CLASSES | (dict.fromkeys(("class", "logit"), objectives.class_contrast) if against_others else {})
    context = _Context(network, read_vector, kinds)
    most = _MOST_QUOTED if re.search("[\"']", text) else _MOST
    if len(text) > most or "\0" in text:
        raise UserError(f"'{shortened(text)}' is no objective: it has {len(text):,} characters, and at most {most:,} are read.")
    found: list[Objective] = []
    for part in (part.strip() for part in _split(text, r";")):
        found += _sum(part, context) if part else []
        if len(found) > _MANY:
            raise UserError(f"'{shortened(text)}' names more than {_MANY:,} objectives: that is too many for a run.")
    if not found:
        raise UserError(f"'{shortened(text)}' is no objective. Write for instance channel:conv4_1:17 or class:elephant.")
    return found


# Characters that are read; quotes are looked for in time that grows with the square of the length.
_MOST, _MOST_QUOTED = 100_000, 5_000
# Objectives of one text, and terms of one sum.
_MANY, _MANY_TERMS = 10_000, 100
_NUMBER = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"


def _split(text: str, separator: str) -> list[str]:
    """`re.split`, but for what stands in quotes."""
    kept: list[str] = []

    def hide(match: re.Match[str]) -> str:
        kept.append(match[0])
        return f"\0{len(kept) - 1}\0"

    parts = re.split(separator, QUOTED.sub(hide, text))
    return [re.sub(r"\0([0-9]+)\0", lambda match: kept[int(match[1])], part) for part in parts]


def _sum(text: str, context: _Context) -> list[Objective]:
    """`A - 0.5*B + C`: signs stand between spaces, so that class names may hold hyphens."""
    first, *rest = _split(text, r"\s+([+-])\s+")
    if len(rest) // 2 >= _MANY_TERMS:
        raise UserError(f"'{shortened(text)}' is a sum of {len(rest) // 2 + 1} terms; at most {_MANY_TERMS} are taken.")
    total = _term(first, context)
    for sign, part in zip(rest[::2], rest[1::2], strict=True):
        terms = _term(part, context)
        if len(terms) > 1 and len(total) > 1 and len(terms) != len(total):
            raise UserError(
                f"'{shortened(text)}' adds {len(terms)} objectives to {len(total)}: the ranges must be equally long."
            )
        count = max(len(total), len(terms))
        pairs = zip(total * (count // len(total)), terms * (count // len(terms)), strict=True)
        total = [a + b if sign == "+" else a - b for a, b in pairs]
    return total


def _term(text: str, context: _Context) -> list[Objective]:
    match = re.fullmatch(rf"([-+]?\s*{_NUMBER})\s*\*\s*(.+)", text)
    weight, atom = (float(match[1].replace(" ", "")), match[2]) if match else (1.0, text)
    if atom.startswith("-") and not match:
        weight, atom = -1.0, atom[1:].strip()
    kind, colon, rest = atom.partition(":")
    if kind not in KINDS or not colon:
        if "*" in kind:
            raise UserError(f"'{shortened(kind.partition('*')[0])}' is no weight: write a number, as in 0.5*class:elephant.")
        raise UserError(f"'{shortened(atom)}' is no objective. It begins with one of {', '.join(k + ':' for k in KINDS)}")
    if not math.isfinite(weight):
        raise UserError(f"'{shortened(text)}' has a weight that is too large.")
    quoted, rest = bool(QUOTED.fullmatch(rest.strip())), rest.strip().strip("'\"")
    if quoted and kind in _OF_CLASSES:
        rest = str(context.network.class_index(rest))
    found = _classes(kind, rest, context) if kind in _OF_CLASSES else _units(kind, rest, context)
    return found if weight == 1.0 else [objective * weight for objective in found]


def _classes(kind: str, rest: str, context: _Context) -> list[Objective]:
    network, count = context.network, context.network.class_count
    numbers = [network.class_index(rest)] if not re.fullmatch(r"[0-9,\s-]+", rest) else parse_numbers(rest, count, "class")
    return [context.of_classes[kind](network, number) for number in numbers]


def _units(kind: str, rest: str, context: _Context) -> list[Objective]:
    name, *places = rest.split(":")
    layer = context.network.layer(name)
    most = {"layer": 0, "channel": 1}.get(kind, len(places))
    if len(places) > most:
        raise UserError(
            f"'{kind}:{shortened(rest)}' goes on after what a {kind} is named by: ':{shortened(':'.join(places[most:]))}'. "
            f"A unit's place stands in neuron:{name}:CHANNEL:ROW:COLUMN."
        )
    if kind == "layer":
        return [objectives.layer_energy(name)]
    if not places:
        raise UserError(
            f"'{kind}:{shortened(rest)}' lacks {'the vector' if kind == 'direction' else 'the channel'}: {kind}:{name}:0"
        )
    if kind == "direction":
        return [objectives.direction(name, _vector(":".join(places), layer, context.read_vector))]
    channels = parse_numbers(places[0], layer.channels, f"channel of {name}")
    if kind == "channel":
        return [objectives.channel(name, channel) for channel in channels]
    y, x = _position(places[1:], layer)
    return [objectives.neuron(name, channel, y, x) for channel in channels]


def parse_numbers(text: str, count: int, what: str) -> list[int]:
    """`7`, `1,5,9` or `0-63`, each below `count`."""
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9})(?:\s*-\s*([0-9]{1,9}))?\s*", part)
        if match is None:
            raise UserError(f"'{shortened(text)}' is no {what}: write 7, 1,5,9 or 0-63.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last >= count:
            raise UserError(f"{what} {part.strip()} is out of range: there are {count}, counted from 0 to {count - 1}.")
        numbers += range(first, last + 1)
        if len(numbers) > max(_MANY, count):
            raise UserError(f"'{shortened(text)}' names more than {max(_MANY, count):,} times a {what}: that is too many.")
    return numbers


def _position(places: list[str], layer: Layer) -> tuple[int | None, int | None]:
    if not places:
        return None, None
    if len(places) != 2 or not all(re.fullmatch("[0-9]{1,9}", place) for place in places):
        raise UserError(
            f"a neuron's place is ROW:COLUMN, as in neuron:{layer.name}:0:3:5, not '{shortened(':'.join(places))}'."
        )
    return int(places[0]), int(places[1])


def _vector(text: str, layer: Layer, read_vector: ReadVector | None) -> Tensor:
    if re.fullmatch(r"\[?[-+0-9.,eE\s]+\]?", text):
        parts = [part.strip() for part in text.strip("[] ").split(",") if part.strip()]
        if wrong := [part for part in parts if not re.fullmatch(rf"[-+]?{_NUMBER}", part)]:
            raise UserError(f"'{shortened(wrong[0])}' is no number: a direction is a number per channel, with commas.")
        vector = Tensor([float(part) for part in parts])
    elif read_vector is not None:
        vector = read_vector(text)
    else:
        raise UserError(f"'{shortened(text)}' is no vector of numbers.")
    if vector.numel() != layer.channels or not 0 < float(vector.float().norm()) < math.inf:
        raise UserError(
            f"the direction has {vector.numel()} numbers; {layer.name} has {layer.channels} channels (finite, not all 0)."
        )
    return vector.flatten().float()
