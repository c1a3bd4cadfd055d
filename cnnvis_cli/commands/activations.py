"""`cnnvis activations`: what a layer's units answer to a picture, as maps."""

from __future__ import annotations

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from cnnvis_cli.config.activations import ActivationsConfig
from cnnvis_cli.engine.locality.receptive_field import ReceptiveField, receptive_fields
from cnnvis_cli.engine.network.activations import activations, middle_layer
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.objective_syntax import parse_numbers
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.color import colorize
from cnnvis_cli.pictures.read import resize_short, to_square
from cnnvis_cli.pictures.sheet import enlarged, framed, sheet
from cnnvis_cli.pictures.write import to_image

# Side of a map on the sheet and of a picture with a map over it, in pixels, at least.
TILE, LARGE = 72, 192
FRAME = (255, 140, 0)
# Brightness of a picture where the unit over it is silent.
DARK = 0.25


def run(config: ActivationsConfig, job: Job) -> None:
    network = job.inputs.network(config)
    layer = config.layer or middle_layer(network)
    known = network.layer(layer)
    if not known.spatial:
        raise UserError(f"{layer} gives a vector, not maps. Layers with maps end at {_last_with_maps(network)}.")
    picture = _prepared(config, network, job.inputs.read_one(config.image))
    with torch.no_grad():
        maps = activations(network, picture, [layer])[layer][0].cpu()
    peaks = maps.amax((1, 2))
    ranking = peaks.argsort(descending=True).tolist()
    chosen = parse_numbers(config.channel, known.channels, f"channel of {layer}") if config.channel else ranking[: config.count]
    marked = sorted(chosen, key=ranking.index)[: config.mark]
    tiles = [_tile(maps[unit], maps[chosen] if config.scale == "all" else maps[unit]) for unit in chosen]
    tiles = [framed(t, FRAME) if unit in marked else t for t, unit in zip(tiles, chosen, strict=True)]
    captions = [f"{unit}: {peaks[unit]:.3g}" for unit in chosen]
    job.results.save_image(sheet(tiles, captions, columns=config.columns).image)
    if marked:
        field = receptive_fields(network, *picture.shape[-2:])[known.name]
        shown = [_lit(picture[0].cpu(), maps[unit], field) for unit in marked]
        original = _enlarged(to_image(picture[0]), LARGE)
        page = sheet([original, *shown], ["picture", *(f"unit {unit}: {peaks[unit]:.3g}" for unit in marked)])
        job.results.save_image(page.image, "overlay")
    if config.raw:
        job.results.save_array(maps[chosen], "maps")
    job.scores.update(
        layer=layer,
        units=known.channels,
        strongest_unit=ranking[0],
        strongest_value=peaks.max().item(),
        silent_units=int((peaks <= 0).sum()),
        active_share=(maps > 0).float().mean().item(),
    )
    job.record.shows(layers=[layer])
    job.record.note(shown=chosen, marked=marked)


def _last_with_maps(network: Network) -> str:
    return [name for name, layer in network.layers.items() if layer.spatial][-1]


def _prepared(config: ActivationsConfig, network: Network, picture: Tensor) -> Tensor:
    """The whole picture at the size the network sees; the centre square where it takes no other shape."""
    side = config.size or network.size
    return to_square(picture, side) if network.fixed_size else resize_short(picture, side)


def _enlarged(image: Image.Image, side: int) -> Image.Image:
    """By a whole factor, to a short side of `side` at least."""
    return enlarged(image, max(1, -(-side // min(image.size))))


def _tile(values: Tensor, of: Tensor) -> Image.Image:
    """A map from the smallest to the largest value of `of`; where no value is negative, black is zero."""
    low, high = min(0.0, of.min().item()), of.max().item()
    return _enlarged(to_image(colorize((values - low) / max(high - low, 1e-12), "magma")), TILE)


def _lit(picture: Tensor, values: Tensor, field: ReceptiveField) -> Image.Image:
    """The picture, lit where the unit is active; a frame around what the unit sees where it is strongest."""
    heat = field.spread(values.clamp_min(0) / values.max().clamp_min(1e-12)).sqrt()
    image = _enlarged(to_image(picture * (DARK + (1 - DARK) * heat)), LARGE)
    factor = image.width / picture.shape[2]
    top, bottom, left, right = field.box(*divmod(int(values.argmax()), values.shape[1]))
    corners = [round(edge * factor) for edge in (left, top, right, bottom)]
    ImageDraw.Draw(image).rectangle((corners[0], corners[1], corners[2] - 1, corners[3] - 1), outline=FRAME, width=2)
    return image
