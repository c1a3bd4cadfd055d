"""The page of a unit: the picture that raises it, the one that lowers it, the patches that excite it most, and which of their
pixels do. What OpenAI's Microscope (Schubert et al. 2020) shows of well-known networks, offline and of any network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cnnvis_cli.commands.units.top import Drawn, draw, in_rows, save_table, search
from cnnvis_cli.engine.network.activations import before_rectifier
from cnnvis_cli.engine.network.layers import OUTPUT
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.objectives import Objective, Term, channel, neuron
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.find import find_pictures
from cnnvis_cli.pictures.read import read, sample, to_square
from cnnvis_cli.pictures.sheet import Sheet, sheet

# Patches on a page, pictures that are looked at at once, and what is looked at unless a folder is named.
PATCHES, BATCH, PICTURES = 6, 32, "sample:caltech"
_KINDS = ("channel", "neuron", "class", "prob", "contrast")
_HEAD, _GAP = 26, 8
# On which it is measured what a rectifier rectifies.
_PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "flower")


@dataclass(frozen=True)
class UnitSheet(Sheet):
    """Pages of units, and the patches on them."""

    rows: list[list[Drawn]]

    def save_table(self, job: Job) -> None:
        save_table(job, self.rows, "patches")


def both_ways(objectives: Sequence[Objective], network: Network) -> list[Objective]:
    """For each objective itself and what lowers it. Below a rectifier's zero there is nothing to see of a unit, so that the
    layer it rectifies is lowered. Raises UserError where one is no single unit."""
    squares = [to_square(read(sample(name)), network.size) for name in _PHOTOGRAPHS]
    examples, found = torch.cat(squares).to(network.device), []
    for objective in objectives:
        term = _unit(objective)
        below = objective
        if term.kind in ("channel", "neuron") and term.index is not None:
            layer, index = term.layer, term.index
            if network.layer(layer).spatial:
                layer, index = before_rectifier(network, layer, index, examples)
            below = neuron(layer, index, *(term.place or ())) if term.kind == "neuron" else channel(layer, index)
        found += [objective, -below]
    return found


def _unit(objective: Objective) -> Term:
    if len(objective.terms) != 1 or objective.terms[0].kind not in _KINDS or objective.terms[0].weight <= 0:
        raise UserError(f"show=unit wants one unit or class for each page, as channel:LAYER:7; '{objective.label}' is none.")
    return objective.terms[0]


def unit_sheet(
    job: Job, network: Network, objectives: Sequence[Objective], pictures: Tensor, captions: Sequence[str], folder: str
) -> UnitSheet:
    """The pages of the units whose `objectives` and `pictures` (2N, 3, H, W) come in pairs, as `both_ways` gave them, one below
    the other; boxes are those of the pictures in their order. Patches come from `folder`."""
    terms = [_unit(objective) for objective in objectives[::2]]
    rows = _patches(job, network, terms, folder)
    pages = []
    for number, term in enumerate(terms):
        pair = list(pictures[2 * number : 2 * number + 2])
        below = objectives[2 * number + 1].terms[0]
        lower = "lowers it" + (f"\n{below.layer}:{below.index}, before the rectifier" if below.layer != term.layer else "")
        # Of what a tile is asked for the heading tells enough; what else its caption says stands below.
        more = ["\n".join(caption.split("\n")[1:]) for caption in captions[2 * number : 2 * number + 2]]
        words = [f"{one}\n{other}".strip() for one, other in zip(("raises it", lower), more, strict=True)]
        pages.append((term.label, sheet(pair, words, columns=2), sheet(*in_rows([rows[number]]), columns=PATCHES)))
    return _stacked(pages, f"{network.name} · ", rows)


def _patches(job: Job, network: Network, terms: Sequence[Term], folder: str) -> list[list[Drawn]]:
    """Each unit's best patches, from one search per layer."""
    sources = find_pictures(folder or PICTURES)
    layers: dict[str, list[int]] = {}
    for term in terms:
        layers.setdefault(term.layer or OUTPUT, []).append(int(term.index or 0))
    drawn: dict[tuple[str, int], list[Drawn]] = {}
    for layer, units in layers.items():
        units = list(dict.fromkeys(units))
        found = search(
            job, network, layer, units, sources, count=PATCHES, batch=BATCH, crop=False, key=f"search {layer}"
        )  # fmt: skip
        drawn |= {(layer, row[0].patch.unit): row for row in draw(job, network, layer, found, crop=False) if row}
    return [drawn.get((term.layer or OUTPUT, int(term.index or 0)), []) for term in terms]


def _stacked(pages: Sequence[tuple[str, Sheet, Sheet]], prefix: str, rows: list[list[Drawn]]) -> UnitSheet:
    width = max(left.image.width + _GAP + right.image.width for _, left, right in pages)
    heights = [_HEAD + max(left.image.height, right.image.height) + _GAP for _, left, right in pages]
    image = Image.new("RGB", (width, sum(heights)), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=16)
    boxes, top = [], 0
    for (label, left, right), height in zip(pages, heights, strict=True):
        pen.text((4, top + 4), prefix + label, (30, 30, 30), font)
        down = top + _HEAD
        image.paste(left.image, (0, down))
        image.paste(right.image, (left.image.width + _GAP, down))
        boxes += [(x, y + down, right_, bottom + down) for x, y, right_, bottom in left.boxes]
        top += height
    return UnitSheet(image, tuple(boxes), rows)
