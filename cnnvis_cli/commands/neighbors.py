"""`cnnvis neighbors`: the pictures nearest to a picture, in a layer's feature space and in pixel space."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from cnnvis_cli.commands.shared.feature_index import Index, open_index, pixel_vectors
from cnnvis_cli.config.neighbors import NeighborsConfig
from cnnvis_cli.engine.network.activations import feature_vectors
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.units.neighbors import chance, nearest, precision_at
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.read import PictureFile, find_pictures, resize, to_square
from cnnvis_cli.pictures.sheet import framed, sheet
from cnnvis_cli.pictures.write import to_image

TILE = 96
RIGHT, WRONG = (40, 150, 60), (200, 60, 50)
SPACES = ("features", "pixels")


@dataclass(frozen=True)
class Queries:
    """Where the search starts. `own` (Q,): the row of the index that is the picture itself, or -1."""

    sources: list[PictureFile]
    features: Tensor
    pixels: Tensor
    own: Tensor


def run(config: NeighborsConfig, job: Job) -> None:
    network = job.inputs.network(config)
    index = open_index(job, network, config)
    if len(index.sources) < 2:
        raise UserError(f"neighbours need at least two pictures; {','.join(config.images)} has {len(index.sources)}.")
    queries = _queries(config, job, network, index)
    shown = queries.sources[: config.rows]
    found = {space: _search(config, queries, index, space) for space in SPACES}
    job.results.save_image(_figure(job, network, shown, index, {space: result[1] for space, result in found.items()}))
    _save_csv(job, queries.sources, index, found)
    job.record.shows(layers=[index.layer])
    job.scores.update(layer=index.layer, metric=config.metric, pictures=len(index.sources), reused_from_index=index.reused)
    if index.labelled:
        job.scores.update(_precision(config, queries if config.query else _all(index), index))


def _queries(config: NeighborsConfig, job: Job, network: Network, index: Index) -> Queries:
    if not config.query:
        rows = torch.tensor(_some(index, config.rows, config.seed))
        return Queries([index.sources[row] for row in rows.tolist()], index.features[rows], index.pixels[rows], rows)
    sources = find_pictures(config.query)
    place = {job.inputs.digest(source): row for row, source in reversed(list(enumerate(index.sources)))}
    features, pixels = [], []
    for source in sources:
        square = to_square(job.inputs.read(source), network.size, network.preprocessing.resize)
        features.append(feature_vectors(network, square, network.layer(index.layer).name).cpu())
        pixels.append(pixel_vectors(square).cpu())
    own = torch.tensor([place.get(source.digest(), -1) for source in sources])
    return Queries(sources, torch.cat(features), torch.cat(pixels), own)


def _some(index: Index, count: int, seed: int) -> list[int]:
    """Rows of so many pictures, of as many different labels as there are."""
    rows = list(range(len(index.sources)))
    random.Random(seed).shuffle(rows)
    turn: Counter[str] = Counter()
    ranked = []
    for row in rows:
        ranked.append((turn[index.labels[row]], row))
        turn[index.labels[row]] += 1
    return [row for _, row in sorted(ranked, key=lambda pair: pair[0])[:count]]


def _all(index: Index) -> Queries:
    """Every picture of the index, against all others."""
    return Queries(index.sources, index.features, index.pixels, torch.arange(len(index.sources)))


def _search(config: NeighborsConfig, queries: Queries, index: Index, space: str) -> tuple[Tensor, Tensor]:
    base, start = (index.features, queries.features) if space == "features" else (index.pixels, queries.pixels)
    count = min(config.count, len(base) - 1)
    return nearest(start, base, count, config.metric, leave_out=queries.own)


def _precision(config: NeighborsConfig, queries: Queries, index: Index) -> dict[str, float]:
    """Precision at k in both spaces, and what blind choice reaches."""
    scores: dict[str, float] = {"queries": len(queries.sources)}
    wanted = [source.label for source in queries.sources]
    for space in SPACES:
        found = _search(config, queries, index, space)[1]
        scores[f"precision_at_{config.count}_{space}"] = precision_at(found, index.labels, wanted)
    return {**scores, "precision_by_chance": chance(index.labels)}


def _figure(job: Job, network: Network, shown: list[PictureFile], index: Index, found: dict[str, Tensor]) -> Image.Image:
    """Two rows per query: neighbours by features above those by pixels; framed by whether they are of the query's class."""
    tiles, captions = [], []
    for row, query in enumerate(shown):
        for space in SPACES:
            tiles.append(_tile(job, network, query))
            captions.append(f"{query.label or query.name} by {space}")
            for number in found[space][row].tolist():
                neighbor = index.sources[number]
                tile = _tile(job, network, neighbor)
                if index.labelled:
                    tile = framed(tile, RIGHT if neighbor.label == query.label else WRONG)
                tiles.append(tile)
                captions.append(neighbor.label or neighbor.name)
    return sheet(tiles, captions, columns=len(tiles) // (2 * len(shown))).image


def _tile(job: Job, network: Network, source: PictureFile) -> Image.Image:
    return to_image(resize(to_square(job.inputs.read(source), network.size, network.preprocessing.resize), TILE, TILE))


def _save_csv(job: Job, queries: list[PictureFile], index: Index, found: dict[str, tuple[Tensor, Tensor]]) -> None:
    rows = [
        [query.path, query.label, space, rank + 1, index.sources[number].path, index.sources[number].label, f"{distance:.6g}"]
        for row, query in enumerate(queries)
        for space, (distances, numbers) in found.items()
        for rank, (distance, number) in enumerate(zip(distances[row].tolist(), numbers[row].tolist(), strict=True))
    ]
    job.results.save_csv(("query", "query_label", "space", "rank", "neighbor", "label", "distance"), rows, "neighbors")
