"""What a result was asked for, as fields of its record: who looks for layers, classes or tiles parses no text."""

from __future__ import annotations

from collections.abc import Sequence

from cnnvis_cli.engine.optim.objectives import CLASS_KINDS, Objective
from cnnvis_cli.jobs.record import Asked, Record


def describe(record: Record, objectives: Sequence[Objective]) -> None:
    """Note the terms of each picture's objective, in the order of the tiles, and the layers and classes that they name."""
    for objective in objectives:
        terms: list[Asked] = []
        for term in objective.terms:
            asked: Asked = {"kind": term.kind, "label": term.label, "weight": term.weight}
            if term.layer:
                asked["layer"] = term.layer
            if term.index is not None:
                asked["index"] = term.index
            if term.name:
                asked["name"] = term.name
            terms.append(asked)
        record.asked.append(terms)
    shows(record, objectives)


def shows(record: Record, objectives: Sequence[Objective]) -> None:
    """Note the layers and classes that objectives name."""
    terms = [term for objective in objectives for term in objective.terms]
    record.shows(
        layers=[term.layer for term in terms if term.layer],
        classes=[term.name for term in terms if term.kind in CLASS_KINDS],
    )
