"""`cnnvis patches`: the patches of many pictures that excite each unit most, cut where the unit can see."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor

from cnnvis_cli.config.patches import PatchesConfig
from cnnvis_cli.engine.locality.receptive_field import ReceptiveField, receptive_fields
from cnnvis_cli.engine.network.activations import activations, middle_layer
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.objective_syntax import parse_numbers
from cnnvis_cli.engine.units.top_patches import TopPatches
from cnnvis_cli.errors import Interrupted
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.read import PictureFile, find_pictures, resize, to_square
from cnnvis_cli.pictures.sheet import sheet

# Side of a patch on the sheet, in pixels, at least. What lies beyond the picture's border is of this grey.
TILE, OUTSIDE = 72, 0.85

Patch = dict[str, Any]


def run(config: PatchesConfig, job: Job) -> None:
    network = job.inputs.network(config)
    layer = config.layer or middle_layer(network)
    count = network.layer(layer).channels
    default = PatchesConfig.model_fields["channel"].default
    few = f"0-{count - 1}" if config.channel == default and count <= int(default.rpartition("-")[2]) else config.channel
    units = parse_numbers(few, count, f"channel of {layer}")
    sources = find_pictures(config.images)
    found = _search(config, job, network, layer, units, sources)
    field = receptive_fields(network)[network.layer(layer).name]
    if field.approximate:
        job.warn(f"what units of {layer} see is approximate: {', '.join(field.approximate)} is not in the table of operators.")
    patches = [_patches(found, row, unit, sources, field) for row, unit in enumerate(units)]
    if not any(patches):
        raise job.inputs.unreadable(sources)
    tiles = _cut(job, network, patches, field)
    captions = [_caption(patch) for row in patches for patch in row]
    job.results.save_image(sheet(tiles, captions, columns=max(map(len, patches))).image)
    columns = ("unit", "rank", "value", "file", "row", "column", "top", "bottom", "left", "right")
    job.results.save_csv(columns, [[patch[key] for key in columns] for row in patches for patch in row], "patches")
    job.record.shows(layers=[layer])
    job.scores.update(
        layer=layer, units=len(units), pictures=len(sources) - len(job.inputs.skipped), left_out=len(job.inputs.skipped)
    )
    job.scores["receptive_field"] = list(field.size) if field.size else None  # rows, columns; None: the whole picture
    job.scores["mean_of_best"] = float(sum(row[0]["value"] for row in patches) / len(patches))
    labels = [[patch["source"].label for patch in row] for row in patches]
    if len({source.label for source in sources}) > 1:
        # How much of a unit's row is of one class: 1 for a unit that answers to one class alone.
        shares = [Counter(row).most_common(1)[0][1] / len(row) for row in labels]
        job.scores["share_of_one_class"] = sum(shares) / len(shares)


def _search(
    config: PatchesConfig, job: Job, network: Network, layer: str, units: list[int], sources: list[PictureFile]
) -> TopPatches:
    """One pass over the pictures, however many. Ctrl-C keeps the state; the same command goes on from there."""
    found = TopPatches(len(units), min(config.count, len(sources)))
    number = {source: i for i, source in enumerate(sources)}
    done = 0
    if (state := job.resume.get("search")) is not None and state["pictures"] == len(sources):
        found.values, found.places, done = state["values"], state["places"], state["done"]
        job.inputs.skipped.update(state["skipped"])
    sides = (network.size, network.preprocessing.resize)
    try:
        with job.track(f"patches of {layer}", len(sources) - done) as bar:
            for part, pictures in job.inputs.stream(sources[done:], *sides, batch=config.batch, bar=bar):
                with torch.no_grad():
                    maps = activations(network, pictures, [layer])[layer][:, units]
                numbers = torch.tensor([number[source] for source in part])
                found.update(maps, numbers)
                done = int(numbers[-1]) + 1
    except Interrupted:
        state = {"values": found.values, "places": found.places, "done": done, "skipped": job.inputs.skipped}
        job.resume.keep("search", {**state, "pictures": len(sources)})
        job.resume.save()
        raise Interrupted(
            f"interrupted after {done} of {len(sources)} pictures. The same command goes on from there."
        ) from None
    return found


def _patches(found: TopPatches, row: int, unit: int, sources: list[PictureFile], field: ReceptiveField) -> list[Patch]:
    """One unit's row, best first."""
    patches = []
    for rank, value in enumerate(found.values[row].tolist()):
        if value == -torch.inf:
            break
        picture, y, x = (int(place) for place in found.places[:, row, rank])
        top, bottom, left, right = field.box(y, x)
        box = {"top": top, "bottom": bottom, "left": left, "right": right}
        source = sources[picture]
        where = {"file": str(source.path), "source": source, "row": y, "column": x, **box}
        patches.append({"unit": unit, "rank": rank + 1, "value": value, **where})
    return patches


def _caption(patch: Patch) -> str:
    return f"unit {patch['unit']}: {patch['value']:.3g}" if patch["rank"] == 1 else f"{patch['value']:.3g}"


def _cut(job: Job, network: Network, patches: list[list[Patch]], field: ReceptiveField) -> list[Tensor]:
    """The tiles of the sheet (3, S, S'), in the order of the rows. The pictures are read once more, one at a time."""
    winners: dict[PictureFile, list[tuple[int, Patch]]] = {}
    flat = [patch for row in patches for patch in row]
    for number, patch in enumerate(flat):
        winners.setdefault(patch["source"], []).append((number, patch))
    tiles = [torch.empty(0)] * len(flat)
    with job.track("cutting", len(winners)) as bar:
        for done, (source, theirs) in enumerate(winners.items(), start=1):
            square = to_square(job.inputs.read(source), network.size, network.preprocessing.resize)[0].cpu()
            for number, patch in theirs:
                tiles[number] = _tile(square, patch, field)
            bar.advance(done)
    return tiles


def _tile(square: Tensor, patch: Patch, field: ReceptiveField) -> Tensor:
    """What the unit sees, at its place in a tile of the receptive field's size (the picture's, where that is smaller)."""
    cut = square[:, patch["top"] : patch["bottom"], patch["left"] : patch["right"]]
    if field.size is not None and max(field.size) < square.shape[1]:
        tile = torch.full((3, *field.size), OUTSIDE)
        top, left = patch["top"] - field.rows.first(patch["row"]), patch["left"] - field.columns.first(patch["column"])
        tile[:, top : top + cut.shape[1], left : left + cut.shape[2]] = cut
    else:
        tile = torch.full((3, *square.shape[1:]), OUTSIDE)
        tile[:, patch["top"] : patch["bottom"], patch["left"] : patch["right"]] = cut
    factor = max(1, round(TILE / max(tile.shape[1:])))
    return resize(tile[None], tile.shape[1] * factor, tile.shape[2] * factor)[0]
