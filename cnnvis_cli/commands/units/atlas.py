"""The activation atlas of `embed`: a grid over the plane of a layer's activations, each cell drawn as what it stands for."""

from __future__ import annotations

import torch
from PIL import Image, ImageDraw, ImageFont
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch import Tensor

from cnnvis_cli.commands.units.tiles import draw_directions
from cnnvis_cli.config.embed import EmbedConfig
from cnnvis_cli.engine.network.activations import activations, rectified_layer
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.units.atlas import Cell, cells_of, random_places
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.read import PictureFile
from cnnvis_cli.pictures.sheet import fit_text
from cnnvis_cli.pictures.write import to_image

# Side of the page in pixels, about; members without which a cell stays empty; a label that so many of them share is written.
PAGE, FEWEST, SHARED = 1536, 3, 0.4
COMPONENTS = 50


def save_atlas(config: EmbedConfig, job: Job, network: Network, sources: list[PictureFile], labels: list[str]) -> None:
    """Saves the page and a table of its cells. `labels`: of the pictures, in the order of `sources`."""
    layer = _layer(config, network)
    vectors, owners = _activations(config, job, network, layer, sources)
    components = PCA(min(COMPONENTS, *vectors.shape), random_state=config.seed % 2**32).fit_transform(vectors.double().numpy())
    job.check_interrupt()
    perplexity = min(config.perplexity, (len(vectors) - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=config.seed % 2**32).fit_transform(components)
    job.check_interrupt()
    cells = cells_of(points, vectors, [labels[owner] for owner in owners], config.cells, FEWEST)
    if not cells:
        raise UserError(f"no cell of the atlas has {FEWEST} activations: take fewer cells, or more pictures or places.")
    tiles = draw_directions(
        job, network, layer, torch.stack([cell.mean for cell in cells]), steps=config.steps, seed=config.seed
    )
    job.results.save_image(_page(config, cells, tiles), "atlas")
    table = [[cell.row, cell.column, cell.members, cell.label, f"{cell.share:.4g}"] for cell in cells]
    job.results.save_csv(("row", "column", "members", "label", "share"), table, "atlas")
    job.record.note(atlas={"layer": layer, "activations": len(vectors), "cells": len(cells), "of": config.cells**2})


def _layer(config: EmbedConfig, network: Network) -> str:
    """The layer asked for, or the last with maps of several places, rectified. Raises UserError where it has no maps."""
    last = [name for name, known in network.layers.items() if known.spatial and known.shape[1] * known.shape[2] > 1]
    if config.layer and not network.layer(config.layer).spatial:
        named = f"; the last layer with maps is {last[-1]}" if last else ""
        raise UserError(f"atlas=true needs a layer with maps; {config.layer} has none{named}.")
    if not config.layer and not last:
        raise UserError(f"atlas=true needs a layer with maps; {network.name} has none.")
    return config.layer or last[-1]


def _activations(
    config: EmbedConfig, job: Job, network: Network, layer: str, sources: list[PictureFile]
) -> tuple[Tensor, list[int]]:
    """Activations (N, C) at random places of all pictures, and the number of the picture that each is from."""
    number = {source: i for i, source in enumerate(sources)}
    generator = torch.Generator().manual_seed(config.seed)
    found: list[Tensor] = []
    owners: list[int] = []
    with job.track(f"activations of {layer}", len(sources)) as bar:
        size = (network.size, network.preprocessing.resize)
        for part, pictures in job.inputs.stream(sources, *size, batch=config.batch, bar=bar):
            if not found:
                layer = rectified_layer(network, layer, pictures[:1])
            with torch.no_grad():
                maps = activations(network, pictures, [layer])[layer]
            vectors = random_places(maps, config.places, generator).cpu()
            found.append(vectors.flatten(0, 1))
            owners += [number[source] for source in part for _ in range(vectors.shape[1])]
    return torch.cat(found), owners


def _page(config: EmbedConfig, cells: list[Cell], tiles: Tensor) -> Image.Image:
    side = max(tiles.shape[-1], round(PAGE / config.cells))
    page = Image.new("RGB", (side * config.cells, side * config.cells), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=max(9, min(14, side // 9)))
    for cell, tile in zip(cells, tiles, strict=True):
        left, top = cell.column * side, cell.row * side
        page.paste(to_image(tile).resize((side, side), Image.Resampling.LANCZOS), (left, top))
        if cell.label and cell.share >= SHARED:
            text = fit_text(cell.label.partition(",")[0], side - 6, font)
            edges = pen.textbbox((left + 3, top + side - 3), text, font, anchor="ls")
            pen.rectangle((edges[0] - 2, edges[1] - 1, edges[2] + 2, edges[3] + 2), fill="white")
            pen.text((left + 3, top + side - 3), text, (30, 30, 30), font, anchor="ls")
    return page
