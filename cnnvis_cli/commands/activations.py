"""`cnnvis activations`: what a layer's units answer to a picture, as maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from cnnvis_cli.commands.units.tiles import draw_directions
from cnnvis_cli.commands.units.top import short
from cnnvis_cli.config.activations import ActivationsConfig
from cnnvis_cli.engine.locality.receptive_field import ReceptiveField, receptive_fields
from cnnvis_cli.engine.network.activations import activations, middle_layer, rectified_layer
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.objective_syntax import parse_numbers
from cnnvis_cli.engine.units.directions import coarse
from cnnvis_cli.engine.units.ranking import interior, strengths
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.color import colorize
from cnnvis_cli.pictures.read import resize
from cnnvis_cli.pictures.sheet import enlarged, framed, sheet
from cnnvis_cli.pictures.write import to_image

# Side of a map on the sheet and of a picture with a map over it, in pixels, at least.
TILE, LARGE = 96, 192
FRAME = (255, 140, 0)
# Brightness of a picture where the unit over it is silent, and of the paper under a grid.
DARK, PAPER = 0.25, 0.93


def run(config: ActivationsConfig, job: Job) -> None:
    network = job.inputs.network(config)
    asked = config.layer or middle_layer(network)
    known = network.layer(asked)
    if not known.spatial:
        last = _last_with_maps(network)
        others = f"Layers with maps end at {last}." if last else f"{network.name} has no layer with maps."
        raise UserError(f"{asked} gives a {'vector' if len(known.shape) == 1 else 'sequence'}, not maps. {others}")
    picture = _prepared(config, network, job.inputs.read_one(config.image))
    layer = rectified_layer(network, asked, picture) if config.rectified else asked
    job.record.shows(layers=[layer])
    with torch.no_grad():
        maps = activations(network, picture, [layer])[layer][0].cpu()
    strong = strengths(maps)
    order = strong.argsort(descending=True, stable=True).tolist()
    chosen = parse_numbers(config.channel, known.channels, f"channel of {layer}") if config.channel else order[: config.count]
    marked = sorted(chosen, key=order.index)[: config.mark]
    # A result that is named by itself is named by the layer that was found for it too.
    suffix = "" if config.layer or config.name else layer
    signed = bool((maps < 0).any())
    tiles = [_tile(maps[unit], maps[chosen] if config.scale == "all" else maps[unit], signed) for unit in chosen]
    tiles = [framed(t, FRAME) if unit in marked else t for t, unit in zip(tiles, chosen, strict=True)]
    captions = [f"{unit}: {short(strong[unit].item())}" for unit in chosen]
    job.results.save_image(sheet(tiles, captions, columns=config.columns).image, suffix)
    if marked:
        field = receptive_fields(network, *picture.shape[-2:])[network.layer(layer).name]
        shown = [_lit(picture[0].cpu(), maps[unit], field) for unit in marked]
        original = _enlarged(to_image(picture[0]), LARGE)
        size = f"{picture.shape[3]} x {picture.shape[2]} px"
        page = sheet([original, *shown], [size, *(f"unit {unit}: {short(strong[unit].item())}" for unit in marked)])
        job.results.save_image(page.image, f"{suffix}-overlay".strip("-"))
    if config.grid:
        _save_grid(config, job, network, layer, picture, maps, f"{suffix}-grid".strip("-"))
    if config.raw:
        job.results.save_array(maps[chosen], "maps")
    job.scores.update(
        layer=layer,
        units=known.channels,
        strongest_unit=order[0],
        strongest_value=strong[order[0]].item(),
        silent_units=int((maps.amax((1, 2)) <= 0).sum()),
        active_share=(maps > 0).float().mean().item(),
    )
    job.record.note(shown=chosen, marked=marked, asked_layer=asked)


def _last_with_maps(network: Network) -> str:
    return next((name for name, layer in reversed(network.layers.items()) if layer.spatial), "")


def _prepared(config: ActivationsConfig, network: Network, picture: Tensor) -> Tensor:
    """The whole picture at a size that the network takes."""
    return resize(picture, *network.fitted(picture.shape[2], picture.shape[3], config.size))


def _enlarged(image: Image.Image, side: int) -> Image.Image:
    """By a whole factor, to a short side of `side` at least."""
    return enlarged(image, max(1, -(-side // min(image.size))))


def _tile(values: Tensor, of: Tensor, signed: bool) -> Image.Image:
    """A map on the scale of `of` off its border: from black for zero, or of a signed layer blue, white for zero, red."""
    span = interior(of).abs().max().clamp_min(1e-12)
    shades = colorize(0.5 + 0.5 * values / span, "RdBu_r") if signed else colorize(values / span, "magma")
    return _enlarged(to_image(shades), TILE)


def _lit(picture: Tensor, values: Tensor, field: ReceptiveField) -> Image.Image:
    """The picture, lit where the unit is active; a frame around what the unit sees where it is strongest."""
    heat = field.spread(values.clamp_min(0) / values.max().clamp_min(1e-12)).sqrt()
    image = _enlarged(to_image(picture * (DARK + (1 - DARK) * heat)), LARGE)
    factor = image.width / picture.shape[2]
    inside = (values == interior(values).max()).nonzero()[0].tolist()
    top, bottom, left, right = field.box(*inside)
    corners = [round(edge * factor) for edge in (left, top, right, bottom)]
    ImageDraw.Draw(image).rectangle((corners[0], corners[1], corners[2] - 1, corners[3] - 1), outline=FRAME, width=2)
    return image


def _save_grid(
    config: ActivationsConfig, job: Job, network: Network, layer: str, picture: Tensor, maps: Tensor, suffix: str
) -> None:
    """The picture divided into the layer's places, or fewer; each drawn as what `maximize` makes of its direction, the fainter
    the weaker the layer answers there (Olah et al. 2018, "spatial activations")."""
    places = coarse(maps, config.cells)
    rows, columns = places.shape[1:]
    vectors = places.flatten(1).T
    lengths = vectors.norm(dim=1)
    drawn = [place for place in range(len(vectors)) if lengths[place] > 0.02 * lengths.max()]
    if not drawn:
        raise UserError(f"{layer} does not answer to this picture at all: there is no direction to draw.")
    tiles = draw_directions(job, network, layer, vectors[drawn], steps=config.steps, seed=config.seed)
    side = tiles.shape[-1]
    opacity = 0.15 + 0.85 * (lengths / lengths.quantile(0.9)).clamp(0, 1)
    page = torch.full((3, rows * side, columns * side), PAPER)
    for place, tile in zip(drawn, tiles, strict=True):
        top, left = place // columns * side, place % columns * side
        page[:, top : top + side, left : left + side] = tile * opacity[place] + PAPER * (1 - opacity[place])
    size = (page.shape[1], page.shape[2])
    beside = F.interpolate(picture.cpu(), size, mode="bicubic", align_corners=False)[0].clamp(0, 1)
    said = [f"{picture.shape[3]} x {picture.shape[2]} px", f"{layer}, {columns} x {rows} places"]
    job.results.save_image(sheet([beside, page], said, columns=2 if rows >= columns else 1).image, suffix)
    job.record.note(grid=[rows, columns], silent_places=len(vectors) - len(drawn))
