"""Feature vectors of many pictures, kept on disk: what `neighbors` and `embed` search, computed once per picture.

One `.npz` per network, layer and collection. Rows are known by the SHA-256 of the picture's file, so that a picture that was
added or changed is computed anew and all others are reused; a network with other weights has another file.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.config.base import CollectionConfig
from cnnvis_cli.engine.network.activations import feature_vectors, penultimate
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.pixels import to_bytes
from cnnvis_cli.errors import Interrupted, UserError
from cnnvis_cli.files.atomic import make_folder
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.jobs.record import safe_name
from cnnvis_cli.pictures.read import PictureFile, find_pictures
from cnnvis_cli.pictures.write import atomic

# Side of the squares that stand for a picture in pixel space: as CIFAR's, in which such comparisons are usually shown.
PIXEL_SIDE = 32


@dataclass(frozen=True)
class Index:
    """Rows in the order of `sources`: `features` (N, C) of the `layer`, `pixels` (N, 3 * 32 * 32) in [0, 1]. `reused`: rows
    that came from the disk."""

    layer: str
    sources: list[PictureFile]
    features: Tensor
    pixels: Tensor
    reused: int

    @cached_property
    def labels(self) -> list[str]:
        """The folder of each picture."""
        return [source.label for source in self.sources]

    @cached_property
    def labelled(self) -> bool:
        """Whether folders can be classes: at least two, and some with more than one picture."""
        return all(self.labels) and 1 < len(set(self.labels)) < len(self.labels)


def open_index(job: Job, network: Network, config: CollectionConfig) -> Index:
    """The index of the config's pictures, from the disk as far as it is there. Raises UserError where none can be read.

    On Ctrl-C what is computed is kept, and the next run goes on from there.
    """
    layer = config.layer or penultimate(network)
    network.layer(layer)
    sources = find_pictures(config.images)
    folder, collection = Path(config.index) if config.index else job.results.folder / "index", ",".join(config.images)
    size = (network.size, network.preprocessing.resize)
    key = json.dumps([1, network.name, job.inputs.weights_digest(config), network.bf16, layer, *size, PIXEL_SIDE, collection])
    name = safe_name(f"{network.name}-{layer}-{Path(collection).name}")
    path = folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.npz"
    make_folder(folder)
    rows = _read(path)
    digests = {source: digest for source in sources if (digest := _digest(job, source))}
    missing = [source for source, digest in digests.items() if digest not in rows]
    reused = len(digests) - len(missing)
    try:
        with job.track(f"features of {layer}", len(missing)) as bar:
            for found, pictures in job.inputs.stream(missing, *size, batch=config.batch, bar=bar):
                features = feature_vectors(network, pictures, network.layer(layer).name).cpu().numpy()
                pixels = to_bytes(pixel_vectors(pictures)).cpu().numpy()
                rows.update((digests[source], row) for source, *row in zip(found, features, pixels, strict=True))
    except Interrupted:
        _write(path, rows)
        raise Interrupted(f"interrupted; {path} keeps what was computed. The same command goes on from there.") from None
    there = [source for source, digest in digests.items() if digest in rows]
    if not there:
        raise job.inputs.unreadable(sources)
    if missing or len(rows) > len(there):
        _write(path, {digests[source]: rows[digests[source]] for source in there})
    features, pixels = (np.stack([rows[digests[source]][part] for source in there]) for part in (0, 1))
    return Index(layer, there, torch.from_numpy(features), torch.from_numpy(pixels).float() / 255, reused)


def pixel_vectors(pictures: Tensor) -> Tensor:
    """(B, 3 * 32 * 32) in [0, 1]: the squares (B, 3, S, S) made small."""
    return F.interpolate(pictures, (PIXEL_SIDE, PIXEL_SIDE), mode="area").flatten(1)


def _digest(job: Job, source: PictureFile) -> str:
    job.check_interrupt()
    try:
        return job.inputs.digest(source)
    except UserError as error:
        job.inputs.skipped[str(source.path)] = str(error)
        return ""


def _read(path: Path) -> dict[str, list[np.ndarray]]:
    """Feature and pixel row by digest; empty where there is no index or it is damaged (it is then made anew)."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            parts = file["digests"], file["features"], file["pixels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}
    return {str(digest): [features, pixels] for digest, features, pixels in zip(*parts, strict=True)}


def _write(path: Path, rows: dict[str, list[np.ndarray]]) -> None:
    if rows:
        features, pixels = (np.stack([row[part] for row in rows.values()]) for part in (0, 1))
        with atomic(path) as file:
            np.savez(file, digests=np.array(list(rows)), features=features, pixels=pixels)
