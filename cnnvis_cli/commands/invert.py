"""`cnnvis invert`: the picture that a layer cannot tell from the given one, and how much each of its channels matters."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnvis_cli.commands.shared.decoded_page import LEAST_TILE, Found, save_page, timed
from cnnvis_cli.commands.shared.decoding import Decoding, natural_pictures
from cnnvis_cli.commands.shared.importance import prune_channels, rank_channels, read_labelled
from cnnvis_cli.config.invert import InvertConfig
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.loop import Loop
from cnnvis_cli.engine.optim.objectives import Objective
from cnnvis_cli.engine.optim.parameterizations import Fourier, Parameterization, Pixels, noise
from cnnvis_cli.engine.synthesis import inversion
from cnnvis_cli.engine.units.importance import following_layer
from cnnvis_cli.errors import SizeError, UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.plots import depths
from cnnvis_cli.pictures.read import find_pictures, to_square
from cnnvis_cli.pictures.sheet import sheet

_TILES_IN_A_ROW = 10
_STEPS = 400
# Distance of codes from which on a picture is not yet one that the layer takes for the other.
FAR = 0.1
# Pixels between two places of a map, and the picture's side, from which on pictures are written in Fourier's basis.
_COARSE, _WIDE = 12, 160
_PIXEL_RATE, _FOURIER_RATE = 0.2, 0.1


@dataclass(frozen=True)
class Asked:
    """A layer's code (1, C, ...) that a picture is looked for, how it is `written` down, and what the bar calls it."""

    layer: str
    code: Tensor
    written: str
    label: str


@dataclass(frozen=True)
class Inversion:
    """The pictures (B, 3, H, W) that were found for one layer's code (1, C, ...)."""

    layer: str
    code: Tensor
    pictures: Tensor


def run(config: InvertConfig, job: Job) -> None:
    network = job.inputs.network(config)
    size = config.size or network.size
    decoding = Decoding(config, config.decoder, job, network) if config.decodes else None
    layers = _layers(config, network, decoding, size)
    original = None if config.code or config.mean else to_square(job.inputs.read_one(config.image), size)
    if config.channels or config.prune:
        following_layer(network, layers[0], config.following or None)
    labelled = read_labelled(config, job, network) if config.prune else None
    codes = _codes(config, job, network, layers, original, size)
    natural = natural_pictures(network, size)
    job.record.shows(layers=layers)
    found, seconds, traces, written = [], [], {}, {}
    for number, layer in enumerate(layers, start=1):
        if config.method == "decoder" and not config.compare:
            break
        objective = _objective(config, network, layer, codes[layer], natural)
        written[layer] = _written(config, codes[layer], size)
        asked = Asked(layer, codes[layer], written[layer], f"{layer} ({number}/{len(layers)})")
        image = _start(config, size, network.device, decoding, asked)
        began = time.perf_counter()
        pictures, traces[layer] = _optimized(config, job, network, objective, image, asked)
        seconds.append(time.perf_counter() - began)
        found.append(Inversion(layer, codes[layer], pictures))
    job.record.trace = traces
    job.record.note(parameterizations=written)
    if decoding is not None and config.method == "decoder":
        _save_decoded(decoding, job, layers, codes, original, dict(zip(traces, zip(found, seconds, strict=True), strict=True)))
        return
    _save(config, job, network, original, found)
    if config.channels and original is not None:
        rank_channels(config, job, network, original, lambda masks: _without(config, job, network, found[0], masks, natural))
    if labelled is not None:
        prune_channels(config, job, network, *labelled)


def _optimized(
    config: InvertConfig, job: Job, network: Network, objective: Objective, image: Parameterization, asked: Asked
) -> tuple[Tensor, list[float]]:
    """The pictures (B, 3, H, W) for a code, and the trace. Where no number of steps was asked for and the code is still far,
    on from there with twice as many."""

    def loop(start: Parameterization, steps: int) -> Loop:
        return inversion.inversion_loop(network, objective, start, steps=steps, rate=_rate(config, asked.written))

    outcome = job.loops.run(loop(image, config.steps or _STEPS), asked.label)
    if config.steps is not None or asked.written == "decoder":
        return outcome.pictures, outcome.means
    codes = inversion.layer_code(network, asked.layer, outcome.pictures)
    if inversion.code_distance(codes, asked.code).max().item() <= FAR:
        return outcome.pictures, outcome.means
    again = job.loops.run(loop(_from_pictures(asked.written, outcome.pictures), 2 * _STEPS), f"{asked.label} again")
    return again.pictures, [*outcome.means, *again.means]


def _from_pictures(written: str, pictures: Tensor) -> Parameterization:
    return Fourier.from_pictures(pictures) if written == "fourier" else Pixels(pictures)


def _save_decoded(
    decoding: Decoding,
    job: Job,
    layers: Sequence[str],
    codes: Mapping[str, Tensor],
    original: Tensor | None,
    optimized: Mapping[str, tuple[Inversion, float]],
) -> None:
    rows = {"decoder": [Found("decoder", layer, *timed(decoding.pictures, layer, codes[layer])) for layer in layers]}
    if optimized:
        rows["optimizer"] = [Found("optimizer", layer, one.pictures, took) for layer, (one, took) in optimized.items()]
    save_page(job, decoding.network, layers, codes, original, rows)


def _layers(config: InvertConfig, network: Network, decoding: Decoding | None, size: int) -> list[str]:
    """As asked for; where a decoder inverts, its levels if nothing is said."""
    if decoding is None or config.parameterization == "decoder":
        return resolve_layers(config.layers, network)
    decoding.fits(size)
    plain = config.layers == type(config).model_fields["layers"].default or list(config.layers) == ["all"]
    layers = list(decoding.levels) if plain else resolve_layers(config.layers, network)
    for layer in layers:
        decoding.file.level(layer)
    return layers


def resolve_layers(names: Sequence[str], network: Network) -> list[str]:
    """The layers that a config names; `all` is the network's trunk, `blocks` its last layer at each size of maps."""
    if list(names) == ["all"]:
        return inversion.trunk(network)
    if list(names) == ["blocks"]:
        return inversion.block_ends(network)
    for name in names:
        network.layer(name)
    return list(dict.fromkeys(names))


def _codes(
    config: InvertConfig, job: Job, network: Network, layers: Sequence[str], original: Tensor | None, size: int
) -> dict[str, Tensor]:
    if config.code:
        return {layers[0]: inversion.check_code(network, layers[0], _read_code(config.code), size)}
    if original is not None:
        return {layer: _told(network, layer, original) for layer in layers}
    pictures = [to_square(job.inputs.read(source), size) for source in find_pictures(config.mean)]
    job.record.note(pictures=len(pictures))
    codes: dict[str, Tensor] = {}
    for layer in layers:
        codes[layer] = torch.stack([_told(network, layer, picture)[0] for picture in pictures]).mean(0, keepdim=True)
        job.check_interrupt()
    return codes


def _told(network: Network, layer: str, pictures: Tensor) -> Tensor:
    """The code; a size that the network cannot take is told here, before any work."""
    try:
        return inversion.layer_code(network, layer, pictures)
    except SizeError as error:
        raise UserError(f"{error} Try size={network.size}.") from None


def _read_code(file: str) -> Tensor:
    try:
        return torch.from_numpy(np.load(Path(file).expanduser(), allow_pickle=False)).float()
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise UserError(f"cannot read the code {file}: {error}. Give a .npy array of numbers.") from None


def _objective(config: InvertConfig, network: Network, layer: str, code: Tensor, natural: Tensor) -> Objective:
    units = inversion.natural_units(network, layer, natural, beta=config.beta, alpha=config.alpha)
    return inversion.inversion_objective(
        layer,
        code,
        units,
        tolerance=config.tolerance,
        variation=config.variation,
        norm_weight=config.norm,
        beta=config.beta,
        alpha=config.alpha,
    )


def _start(config: InvertConfig, size: int, device: torch.device, decoding: Decoding | None, asked: Asked) -> Parameterization:
    seeds = range(config.seed, config.seed + config.count)
    if decoding is not None and asked.written == "decoder":
        return decoding.parameterization(seeds, size)
    if decoding is not None and config.start == "decoder":
        return _from_pictures(asked.written, decoding.pictures(asked.layer, asked.code))
    if asked.written == "fourier":
        return Fourier.from_noise(seeds, size, size, std=config.noise or 0.12, device=device)
    return Pixels((0.5 + (config.noise or 0.1) * noise(seeds, 3, size, size)).clamp(0, 1).to(device))


def _written(config: InvertConfig, code: Tensor, size: int) -> str:
    """How the picture for a code is written down: as asked for, or what comes nearer to it in the same steps.

    Coarse maps hear long waves, which pixels have to move one by one; fine maps know every pixel.
    """
    if config.parameterization != "auto":
        return config.parameterization
    return "fourier" if size >= _WIDE and inversion.pitch(code, size) >= _COARSE else "pixels"


def _rate(config: InvertConfig, written: str) -> float:
    return config.rate or (_FOURIER_RATE if written == "fourier" else _PIXEL_RATE)


def _without(config: InvertConfig, job: Job, network: Network, one: Inversion, masks: Tensor, natural: Tensor) -> Tensor:
    """Pictures (K, 3, H, W): the inversion gone on with for a quarter of the steps, its code under each of `masks` (K, C)."""
    codes = one.code * masks.to(one.code).view(*masks.shape, *[1] * (one.code.ndim - 2))
    start = one.pictures[:1].expand(len(masks), -1, -1, -1)
    written = _written(config, one.code, start.shape[3])
    image = _from_pictures(written, start)
    objective = _objective(config, network, one.layer, codes, natural)
    loop = inversion.inversion_loop(
        network, objective, image, steps=max(1, (config.steps or _STEPS) // 4), rate=0.3 * _rate(config, written)
    )
    return job.loops.run(loop, f"{one.layer} without a channel").pictures


def _save(config: InvertConfig, job: Job, network: Network, original: Tensor | None, found: Sequence[Inversion]) -> None:
    tiles = [] if original is None else [original[0]]
    captions = [] if original is None else ["original"]
    rows = config.count > 1 and len(found) > 1
    for one in found:
        if rows and one is not found[0] and original is not None:
            tiles.append(original[0])
            captions.append("original")
        tiles += list(one.pictures)
        captions += [one.layer if config.count == 1 else f"{one.layer} ({i + 1})" for i in range(len(one.pictures))]
    in_a_row = config.count + (original is not None) if rows else len(tiles)
    page = sheet(tiles, captions, columns=min(in_a_row, config.count + 1 if rows else _TILES_IN_A_ROW), least=LEAST_TILE)
    saved = job.results.save_image(page.image)
    place, table = 0, []
    for one in found:
        place += int(original is not None and (rows or one is found[0]))
        pictures = torch.cat([page.tile(saved, place + i) for i in range(config.count)])
        place += config.count
        table += _measured(network, one, pictures, original)
    if far := {row["layer"]: row["code_distance"] for row in table if row["code_distance"] > FAR}:
        told = ", ".join(f"{layer} {distance:.2f}" for layer, distance in far.items())
        job.warn(f"{told}: the code is further off than {FAR} (0: the same). More steps may bring it closer.")
    header = ["depth", "layer", "variant", "code_distance", "pixel_rms", "ssim"]
    job.results.save_csv(header, [[row.get(key, "") for key in header] for row in table], "table")
    job.scores["layers"] = table
    if config.count > 1:
        _compare_variants(config, job, network, found)
    if len(found) > 1:
        means = [_mean_by_layer(table, one.layer, "code_distance") for one in found]
        alike = [] if original is None else [_mean_by_layer(table, one.layer, "ssim") for one in found]
        job.results.save_image(depths([one.layer for one in found], means, alike), "depths")
        job.scores["rank_correlation_of_code_distance_with_depth"] = rank_correlation(means)
        if alike:
            apart = [_mean_by_layer(table, one.layer, "pixel_rms") for one in found]
            job.scores["rank_correlation_of_pixel_distance_with_depth"] = rank_correlation(apart)
            job.scores["rank_correlation_of_ssim_with_depth"] = rank_correlation(alike)
    else:
        for key in ("code_distance", "ssim"):
            if key in table[0]:
                job.scores[key] = _mean_by_layer(table, found[0].layer, key)


def _measured(network: Network, one: Inversion, pictures: Tensor, original: Tensor | None) -> list[dict[str, Any]]:
    """A row for each saved picture (B, 3, H, W): how far its code is, how far its pixels."""
    distances = inversion.code_distance(inversion.layer_code(network, one.layer, pictures), one.code)
    rows: list[dict[str, Any]] = []
    for number, (picture, distance) in enumerate(zip(pictures.split(1), distances.tolist(), strict=True), start=1):
        row = {"depth": network.layer(one.layer).order, "layer": one.layer, "variant": number, "code_distance": distance}
        if original is not None:
            row["pixel_rms"] = (picture - original).square().mean().sqrt().item()
            row["ssim"] = inversion.similarity(picture, original)
        rows.append(row)
    return rows


def _mean_by_layer(table: Sequence[dict[str, Any]], layer: str, key: str) -> float:
    return float(np.mean([row[key] for row in table if row["layer"] == layer]))


def rank_correlation(values: Sequence[float]) -> float:
    """Spearman's rank correlation of values with their order; 1 if they only rise."""
    if len(values) < 2:
        return 0.0
    ranks = np.argsort(np.argsort(values))
    return float(np.corrcoef(ranks, np.arange(len(values)))[0, 1])


def _compare_variants(config: InvertConfig, job: Job, network: Network, found: Sequence[Inversion]) -> None:
    """Each pair of variants: how far apart as pictures, and how far apart for the layer."""
    rows = []
    for one in found:
        codes = inversion.layer_code(network, one.layer, one.pictures)
        scale = one.code.square().sum().clamp_min(1e-12)
        for a in range(config.count):
            for b in range(a + 1, config.count):
                apart = (one.pictures[a] - one.pictures[b]).square().mean().sqrt().item()
                alike = inversion.similarity(one.pictures[a : a + 1], one.pictures[b : b + 1])
                rows.append([one.layer, a + 1, b + 1, apart, alike, ((codes[a] - codes[b]).square().sum() / scale).item()])
    job.results.save_csv(["layer", "first", "second", "pixel_rms", "ssim", "code_distance"], rows, "pairs")
    job.scores["mean_pixel_rms_between_variants"] = float(np.mean([row[3] for row in rows]))
    job.scores["mean_code_distance_between_variants"] = float(np.mean([row[5] for row in rows]))
