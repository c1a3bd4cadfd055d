"""Facets as `maximize` shows them: each picture beside the mean of its cluster and the cluster's first members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.objectives import Objective
from cnnvis_cli.engine.units.facets import Facet, distance_between, facets_of
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.find import find_pictures
from cnnvis_cli.pictures.read import PictureFile, to_square
from cnnvis_cli.pictures.sheet import Sheet, sheet
from cnnvis_cli.pictures.write import to_image

# Members of a cluster that are shown.
SHOWN = 4


@dataclass(frozen=True)
class Face:
    """A facet with its members' files and the pictures that stand beside it."""

    facet: Facet
    files: tuple[PictureFile, ...]
    members: tuple[Tensor, ...]

    def said(self) -> dict[str, Any]:
        """What the record says of it."""
        return {"pictures": len(self.files), "members": [source.address for source in self.files]}


def faces_of(job: Job, network: Network, objective: Objective, folder: str, clusters: int, seed: int) -> list[Face]:
    """The facets of an objective among the pictures of a folder. Raises UserError where they are too few."""
    sources = find_pictures(folder)
    if len(sources) < clusters:
        raise UserError(f"{clusters} facets need at least as many pictures; {folder} has {len(sources)}.")
    examples = torch.cat([to_square(job.inputs.read(source), network.size) for source in sources])
    return [
        Face(
            facet,
            tuple(sources[number] for number in facet.members),
            tuple(examples[number].cpu() for number in facet.members[:SHOWN]),
        )
        for facet in facets_of(network, objective, examples, clusters, seed=seed)
    ]


def face_sheet(pictures: Sequence[Tensor], captions: Sequence[str], faces: Sequence[Face]) -> Sheet:
    """A row for each facet: its picture, the mean of its cluster, members. Boxes are those of the pictures."""
    tiles: list[Image.Image | Tensor] = []
    words: list[str] = []
    side = pictures[0].shape[-1]
    for picture, caption, face in zip(pictures, captions, faces, strict=True):
        others = [face.facet.mean.cpu(), *face.members]
        shown = [to_image(other).resize((side, side), Image.Resampling.LANCZOS) for other in others]
        blank = [Image.new("RGB", (side, side), "white")] * (SHOWN + 1 - len(shown))
        tiles += [picture, *shown, *blank]
        words += [caption, f"mean of {len(face.files)}", *([""] * SHOWN)]
    page = sheet(tiles, words, columns=2 + SHOWN)
    return Sheet(page.image, page.boxes[:: 2 + SHOWN])


def gram_layer(network: Network, objective: Objective, named: str) -> str:
    """The layer at which pictures are compared: as named, else the objective's own, else the last with maps."""
    layer = named or next(iter(objective.layers))
    if not named and not network.layer(layer).spatial:
        layer = [name for name, known in network.layers.items() if known.spatial][-1]
    return layer


def note_facets(
    job: Job,
    network: Network,
    objectives: Sequence[Objective],
    pictures: Sequence[Tensor],
    faces: Sequence[Face | None],
    named: str,
) -> None:
    """Into the record: how much the saved pictures of an objective differ, and who is in the clusters they stand for."""
    job.scores["distance_between"] = distances(network, objectives, pictures, named)
    if known := [face.said() for face in faces if face is not None]:
        job.record.note(facets=known)


def distances(network: Network, objectives: Sequence[Objective], pictures: Sequence[Tensor], named: str) -> float:
    """How much the pictures of each objective differ, on average over objectives (0: alike, to 1)."""
    groups: dict[str, list[Tensor]] = {}
    for objective, picture in zip(objectives, pictures, strict=True):
        groups.setdefault(objective.label, []).append(picture.to(network.device))
    layer = gram_layer(network, objectives[0], named)
    values = [distance_between(network, layer, torch.cat(group)) for group in groups.values() if len(group) > 1]
    return sum(values) / max(1, len(values))
