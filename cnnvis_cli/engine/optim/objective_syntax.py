"""The language in which a user writes objectives.

channel:conv4_1:17                     mean of a channel          neuron:conv4_1:17:3:5    one unit (y, x; default: middle)
layer:conv4_1                          a whole layer              direction:conv4_1:V      a direction of its channel space
class:elephant  (or a number)          a class logit              prob:elephant            its (log-)probability
channel:conv4_1:17 - 0.5*channel:conv4_1:3     sums and differences, with weights
channel:conv3_1:0-63  channel:conv3_1:1,5,9    several at once, one picture each
class:elephant; class:face             several at once
"""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import Tensor

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.network.layers import Layer
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim import objectives
from cnnvis_cli.engine.optim.objectives import Objective

KINDS = ("channel", "neuron", "layer", "direction", "class", "logit", "prob")
ReadVector = Callable[[str], Tensor]


def parse_objectives(text: str, network: Network, read_vector: ReadVector | None = None) -> list[Objective]:
    """All objectives that a text names, one per picture. Raises UserError that says what is wrong and what would be right.

    `read_vector` gives the vector (C,) of a `direction:LAYER:V` whose V is not a list of numbers (a file, say).
    """
    found = [objective for part in text.split(";") if part.strip() for objective in _sum(part.strip(), network, read_vector)]
    if not found:
        raise UserError(f"'{text}' is no objective. Write for instance channel:conv4_1:17 or class:elephant.")
    return found


def _sum(text: str, network: Network, read_vector: ReadVector | None) -> list[Objective]:
    """`A - 0.5*B + C`: signs stand between spaces, so that class names may hold hyphens."""
    first, *rest = re.split(r"\s+([+-])\s+", text)
    total = _term(first, network, read_vector)
    for sign, part in zip(rest[::2], rest[1::2], strict=True):
        terms = _term(part, network, read_vector)
        if len(terms) > 1 and len(total) > 1 and len(terms) != len(total):
            raise UserError(f"'{text}' adds {len(terms)} objectives to {len(total)}: the ranges must be equally long.")
        count = max(len(total), len(terms))
        pairs = zip(total * (count // len(total)), terms * (count // len(terms)), strict=True)
        total = [a + b if sign == "+" else a - b for a, b in pairs]
    return total


def _term(text: str, network: Network, read_vector: ReadVector | None) -> list[Objective]:
    match = re.fullmatch(r"([-+]?\s*[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*\*\s*(.+)", text)
    weight, atom = (float(match[1].replace(" ", "")), match[2]) if match else (1.0, text)
    if atom.startswith("-") and not match:
        weight, atom = -1.0, atom[1:].strip()
    kind, colon, rest = atom.partition(":")
    if kind not in KINDS or not colon:
        raise UserError(f"'{atom}' is no objective. It begins with one of {', '.join(k + ':' for k in KINDS)}")
    rest = rest.strip().strip("'\"")
    found = _classes(kind, rest, network) if kind in ("class", "logit", "prob") else _units(kind, rest, network, read_vector)
    return found if weight == 1.0 else [objective * weight for objective in found]


def _classes(kind: str, rest: str, network: Network) -> list[Objective]:
    count = network.class_count
    numbers = [network.class_index(rest)] if not re.fullmatch(r"[\d,\s-]+", rest) else parse_numbers(rest, count, "class")
    make = objectives.class_probability if kind == "prob" else objectives.class_logit
    return [make(network, number) for number in numbers]


def _units(kind: str, rest: str, network: Network, read_vector: ReadVector | None) -> list[Objective]:
    name, *places = rest.split(":")
    layer = network.layer(name)
    if kind == "layer":
        return [objectives.layer_energy(name)]
    if not places:
        raise UserError(f"'{kind}:{rest}' lacks {'the vector' if kind == 'direction' else 'the channel'}: {kind}:{name}:0")
    if kind == "direction":
        return [objectives.direction(name, _vector(":".join(places), layer, read_vector))]
    channels = parse_numbers(places[0], layer.channels, f"channel of {name}")
    if kind == "channel":
        return [objectives.channel(name, channel) for channel in channels]
    y, x = _position(places[1:], layer)
    return [objectives.neuron(name, channel, y, x) for channel in channels]


def parse_numbers(text: str, count: int, what: str) -> list[int]:
    """`7`, `1,5,9` or `0-63`, each below `count`."""
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if match is None:
            raise UserError(f"'{text}' is no {what}: write 7, 1,5,9 or 0-63.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last >= count:
            raise UserError(f"{what} {part.strip()} is out of range: there are {count}, counted from 0 to {count - 1}.")
        numbers += range(first, last + 1)
    return numbers


def _position(places: list[str], layer: Layer) -> tuple[int | None, int | None]:
    if not places:
        return None, None
    if len(places) != 2 or not all(place.isdigit() for place in places):
        raise UserError(f"a neuron's place is ROW:COLUMN, as in neuron:{layer.name}:0:3:5, not '{':'.join(places)}'.")
    return int(places[0]), int(places[1])


def _vector(text: str, layer: Layer, read_vector: ReadVector | None) -> Tensor:
    if re.fullmatch(r"\[?[-+\d.,eE\s]+\]?", text):
        vector = Tensor([float(part) for part in text.strip("[] ").split(",") if part.strip()])
    elif read_vector is not None:
        vector = read_vector(text)
    else:
        raise UserError(f"'{text}' is no vector of numbers.")
    if vector.numel() != layer.channels or not bool(vector.norm() > 0):
        raise UserError(f"the direction has {vector.numel()} numbers; {layer.name} has {layer.channels} channels (not all 0).")
    return vector.flatten().float()
