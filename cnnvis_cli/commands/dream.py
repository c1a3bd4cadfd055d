"""`cnnvis dream`: raise what a layer sees in a picture, over octaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cnnvis_cli.commands.shared.described import describe
from cnnvis_cli.config.dream import DreamConfig
from cnnvis_cli.engine.locality.tiled_objective import score_by_tiles, value_gradient_by_tiles
from cnnvis_cli.engine.network.activations import middle_layer
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.evaluate import score, value_gradient
from cnnvis_cli.engine.optim.loop import Loop, Outcome
from cnnvis_cli.engine.optim.objective_syntax import parse_objectives
from cnnvis_cli.engine.optim.objectives import Objective, layer_energy
from cnnvis_cli.engine.optim.parameterizations import Pixels, noise
from cnnvis_cli.engine.optim.rectifiers import FIRST_STEPS
from cnnvis_cli.engine.pixels import eight_bit
from cnnvis_cli.engine.synthesis import dream
from cnnvis_cli.engine.synthesis.inversion import block_ends, layer_code, trunk
from cnnvis_cli.errors import SizeError, UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.read import resize
from cnnvis_cli.pictures.sheet import sheet
from cnnvis_cli.pictures.write import has_video, need_video, to_image

# Where a side is longer than so many tiles, the picture is evaluated in tiles.
_TILES = 2
_LAYER = "relu4_1"


def run(config: DreamConfig, job: Job) -> None:
    if config.zoom and config.video == "mp4":
        need_video()
    network = job.inputs.network(config)
    objectives = _objectives(config, job, network)
    picture = _at_its_size(config, job, network, objectives, _picture(config, job, network))
    dreams = [_dream(config, job, network, objective, picture) for objective in objectives]
    pictures = [outcomes[-1].pictures for outcomes in dreams]
    if len(pictures) == 1:
        saved = [job.results.save_picture(pictures[0])]
    else:
        page = sheet([one[0] for one in pictures], [one.label for one in objectives], columns=config.columns)
        reloaded = job.results.save_image(page.image)
        saved = [page.tile(reloaded, number) for number in range(len(pictures))]
    rows = []
    for objective, one, outcomes in zip(objectives, saved, dreams, strict=True):
        before, after = (_score(config, network, objective, seen) for seen in (picture, one))
        octaves = [_octave(config, network, objective, picture, outcome) for outcome in outcomes]
        rows.append({"objective": objective.label, "before": before, "after": after, "octaves": octaves})
    job.scores.update(rows[0] if len(rows) == 1 else {"dreams": rows})
    job.record.trace = [outcome.means for outcomes in dreams for outcome in outcomes]
    job.record.stopped = [outcome.stopped for outcomes in dreams for outcome in outcomes]
    describe(job.record, objectives)
    if config.zoom:
        _zoom(config, job, network, objectives[0], pictures[0])


def _objectives(config: DreamConfig, job: Job, network: Network) -> list[Objective]:
    if config.layers:
        names = trunk(network) if list(config.layers) == ["all"] else list(config.layers)
        found = [layer_energy(name) for name in names if network.layer(name).spatial or list(config.layers) != ["all"]]
    else:
        found = parse_objectives(_objective_of(config, job, network), network)
        if len(found) > 1:
            raise UserError(f"'{config.objective}' names {len(found)} objectives; a dream has one. A sheet is made by layers=.")
    return [_guided(config, job, network, one) for one in found] if config.guide else found


def _objective_of(config: DreamConfig, job: Job, network: Network) -> str:
    """What is asked for; by default a VGG's relu4_1. Elsewhere, as in DeepDream, the last whole block at the second smallest
    size of maps (layers inside of blocks may have few channels); of a network of one size its middle layer.
    """
    if config.objective:
        return config.objective
    if _LAYER in network.layers or _LAYER in network.aliases:
        return f"layer:{_LAYER}"
    ends = [end for end in block_ends(network) if network.layer(end).spatial and max(network.layer(end).shape[1:]) > 1]
    chosen = ends[-2] if len(ends) > 1 else middle_layer(network)
    job.say(f"cnnvis: {network.name} has no {_LAYER}: its layer {chosen} dreams (layer=NAME chooses)")
    return f"layer:{chosen}"


def _guided(config: DreamConfig, job: Job, network: Network, objective: Objective) -> Objective:
    """The same layers, asked for the features of the guide."""
    blind = sorted(layer for layer in objective.layers if not network.layer(layer).spatial)
    if blind:
        raise UserError(f"a guide needs layers with maps; {', '.join(blind)} has none. Try objective=layer:NAME.")
    guide = _fitted(config, job.inputs.read_one(config.guide))
    parts = [dream.guided(layer, layer_code(network, layer, guide)) for layer in sorted(objective.layers)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _picture(config: DreamConfig, job: Job, network: Network) -> Tensor:
    """(1, 3, H, W) to dream on."""
    if config.image == "noise":
        side = config.size or 512
        picture = (0.5 + 0.1 * noise([config.seed], 3, side, side)).clamp(0, 1).to(network.device)
    else:
        picture = _fitted(config, job.inputs.read_one(config.image))
    return picture


def _at_its_size(config: DreamConfig, job: Job, network: Network, objectives: Sequence[Objective], picture: Tensor) -> Tensor:
    """The picture, brought to the one size that a network takes where an objective needs the whole of such a network."""
    side = network.size
    if not network.fixed_size or picture.shape[-2:] == (side, side):
        return picture
    try:
        for objective in objectives:
            _score(config, network, objective, picture)
    except SizeError as error:
        job.say(f"cnnvis: {error} It dreams at its own size, in one octave.")
        return dream.resampled(picture, (side, side)).clamp(0, 1)
    return picture


def _fitted(config: DreamConfig, picture: Tensor) -> Tensor:
    """The longer side brought to `size`."""
    if not config.size:
        return picture
    height, width = picture.shape[-2:]
    factor = config.size / max(height, width)
    return resize(picture, max(1, round(height * factor)), max(1, round(width * factor)))


def _tiled(config: DreamConfig, size: Sequence[int]) -> bool:
    return max(size) > _TILES * config.tile


def _loop(config: DreamConfig, network: Network, objective: Objective, start: Tensor, steps: int) -> Loop:
    generator = torch.Generator().manual_seed(config.seed)
    transform = dream.mirrored_jitter(config.jitter) if config.jitter else None
    if _tiled(config, start.shape[-2:]):
        evaluate = value_gradient_by_tiles(network, objective, config.tile, transform=transform, generator=generator)
    else:
        evaluate = value_gradient(network, objective, transform=transform, generator=generator)
    return Loop(
        image=Pixels(start),
        evaluate=evaluate,
        steps=steps,
        update="normalized",
        rate=config.rate,
        generator=generator,
        gradient=dream.smoothing(config.smooth) if config.smooth else None,
        passing=FIRST_STEPS,
    )


def _dream(config: DreamConfig, job: Job, network: Network, objective: Objective, picture: Tensor) -> list[Outcome]:
    height, width = picture.shape[-2:]
    sizes = dream.octave_sizes(height, width, config.octaves, config.scale, config.smallest)
    try:
        _score(config, network, objective, dream.resampled(picture, sizes[0]).clamp(0, 1))
    except SizeError as error:
        if not network.fixed_size:
            raise UserError(f"{error} Use size=, raise smallest=, or name a layer before its linear ones.") from None
        sizes = [(height, width)]
    stages = dream.octaves(picture, sizes, lambda start: _loop(config, network, objective, start, config.steps))
    return job.loops.run_stages(stages, config.steps * len(stages), objective.label)


def _score(config: DreamConfig, network: Network, objective: Objective, pictures: Tensor) -> float:
    """The objective of a picture as it is. Raises SizeError where the network does not take its size."""
    if _tiled(config, pictures.shape[-2:]):
        return score_by_tiles(network, objective, pictures, config.tile).item()
    return score(network, objective, pictures).item()


def _octave(config: DreamConfig, network: Network, objective: Objective, picture: Tensor, outcome: Outcome) -> dict[str, Any]:
    """Size, and the objective of the original at that size and of what the octave made of it, both in 8 bits."""
    height, width = outcome.pictures.shape[-2:]
    base, made = (eight_bit(seen.clamp(0, 1)) for seen in (dream.resampled(picture, (height, width)), outcome.pictures))
    before, after = (_score(config, network, objective, seen) for seen in (base, made))
    return {"width": width, "height": height, "before": before, "after": after}


def _zoom(config: DreamConfig, job: Job, network: Network, objective: Objective, first: Tensor) -> None:
    """Frames of a way into the picture: enlarge a little, dream a little, again and again."""
    frames = [first]
    for number in range(1, config.zoom):
        start = dream.toned(dream.zoomed(frames[-1], config.zoom_factor), first)
        loop = _loop(config, network, objective, start, config.zoom_steps)
        frames.append(job.loops.run(loop, f"frame {number + 1}/{config.zoom}").pictures)
    images = [to_image(frame) for frame in frames]
    if config.video == "gif" or (config.video == "auto" and not has_video()):
        job.results.save_gif(images, "zoom")
    else:
        job.results.save_video(images, "zoom")
    job.scores["frames"] = len(frames)
