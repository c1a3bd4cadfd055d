"""`cnnvis saliency`: what in this picture made the network say so."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cnnvis_cli.commands.heat.many import MapSheet, folders_are_classes, outside_box
from cnnvis_cli.commands.shared import heat_views
from cnnvis_cli.commands.shared.described import shows
from cnnvis_cli.commands.shared.fill import parse_fill
from cnnvis_cli.commands.shared.heat_views import View
from cnnvis_cli.commands.shared.masking import Masking
from cnnvis_cli.config.saliency import SaliencyConfig
from cnnvis_cli.engine.attribution import gradients
from cnnvis_cli.engine.attribution.faithfulness import Stage, sanity_check
from cnnvis_cli.engine.attribution.occlusion import fill_image
from cnnvis_cli.engine.attribution.segmentation import concentration, object_mask
from cnnvis_cli.engine.attribution.targets import Target, resolve_target
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.evaluate import score
from cnnvis_cli.engine.optim.objectives import Objective
from cnnvis_cli.engine.pixels import gaussian_blur
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.read import find_pictures

# Longer side of a tile of the cascade, in pixels.
CASCADE_TILE = 240


@dataclass(frozen=True)
class Explained:
    """Of one picture: the map (h, w) that is scored; of methods whose gradient is a picture of its own, that, (3, h, w)."""

    heat: Tensor
    colors: Tensor | None = None


def run(config: SaliencyConfig, job: Job) -> None:
    network = job.inputs.network(config)
    sources = find_pictures(config.image)
    if config.beside and len(sources) > 1:
        raise UserError(
            "beside=... compares methods on one picture. For several, a job file: matrix: {image: [...], method: [...]}."
        )
    masking = Masking(config, config.masker, job) if "masker" in config.methods else None
    maps, rows = MapSheet(network.size, folders_are_classes(sources)), []
    with job.track(f"saliency {config.method}", len(sources)) as bar:
        for view in heat_views.views(job, network, sources, config.size, config.crop):
            target = resolve_target(config.target, network, view.seen)
            found = _explain(config, network, view.seen, target.logit, masking)
            shows(job.record, [target.logit])
            row = {"picture": view.source.name, "seen_at": view.size_seen}
            rows.append(row | _scores_of(config, network, view.seen, found.heat, target))
            stages = _sanity(config, network, view.seen, found.heat, target, masking, rows[-1])
            if len(sources) == 1:
                rows[-1] |= outside_box(view, view.enlarge(found.heat))
                _save_one(config, job, view, found, target, rows[0])
                if config.beside:
                    _save_methods(config, job, network, view, found, target, rows[0], masking)
                if stages:
                    _save_cascade(job, view, found.heat, stages)
            else:
                said = heat_views.caption(target, rows[-1]["value"])
                rows[-1] |= maps.add(view, view.enlarge(found.heat), target.label, said)
            bar.advance(len(rows) + len(job.inputs.skipped))
    if len(sources) > 1:
        maps.save(job)
    heat_views.record(job, rows)


def _explain(
    config: SaliencyConfig, network: Network, image: Tensor, target: Objective, masking: Masking | None = None
) -> Explained:
    """The map of a picture (1, 3, h, w) by the method that the config names."""
    generator = torch.Generator().manual_seed(config.seed)
    layer = config.layer or None
    pixels: dict[str, Callable[[Network, Tensor, Objective], Tensor]] = {
        "gradient": gradients.gradient,
        "smoothgrad": partial(gradients.smoothgrad, generator=generator, samples=config.samples, noise=config.noise),
        "guided_backprop": gradients.guided_backprop,
        "guided_grad_cam": partial(gradients.guided_grad_cam, layer=layer),
    }
    colors = None
    if config.method in pixels:
        slopes = pixels[config.method](network, image, target)
        heat = gradients.strongest(slopes)[0]
        colors = gradients.signed_picture(slopes[0]) if config.method != "smoothgrad" else None
    elif config.method == "gradient_times_input":
        heat = gradients.contribution(gradients.gradient_times_input(network, image, target))[0]
    elif config.method == "integrated_gradients":
        start = fill_image(network, image[0], parse_fill(config.baseline, "baseline"), generator)[None]
        shares = gradients.integrated_gradients(network, image, target, start=start, steps=config.steps)
        heat = gradients.contribution(shares)[0]
    elif masking is not None:
        heat = masking.mask(network, image, target)
    else:
        layer = layer or gradients.grad_cam_layer(network, target, image)
        maps = gradients.grad_cam(network, image, target, layer)
        heat = gradients.over_picture(network, image, layer, maps)[0]
    return Explained(_smoothed(heat, config.smooth / 100 * min(heat.shape)), colors)


def _smoothed(heat: Tensor, sigma: float) -> Tensor:
    if sigma < 0.1:
        return heat
    return gaussian_blur(heat[None], min(max(1, round(3 * sigma)), min(heat.shape) - 1), sigma)[0]


def _scores_of(config: SaliencyConfig, network: Network, image: Tensor, heat: Tensor, target: Target) -> dict[str, Any]:
    """What the sidecar says about one picture."""
    row: dict[str, Any] = {"target": target.label, "value": float(score(network, target.judged, image))}
    if config.score:
        row |= heat_views.faithfulness(network, image, heat, target)
    return row


def _sanity(
    config: SaliencyConfig,
    network: Network,
    image: Tensor,
    heat: Tensor,
    target: Target,
    masking: Masking | None,
    row: dict[str, Any],
) -> list[Stage]:
    """The cascade of ever more random weights, noted in the picture's row; empty where it was not asked for."""
    if not config.sanity:
        return []
    generator = torch.Generator().manual_seed(config.seed)
    stages = sanity_check(network, lambda other: _explain(config, other, image, target.logit, masking).heat, heat, generator)
    row["rank_correlation_when_randomized"] = {stage.name: stage.correlation for stage in stages}
    return stages


def _save_cascade(job: Job, view: View, heat: Tensor, stages: list[Stage]) -> None:
    """The map of the trained network, then those of the random ones."""
    tiles: list[Any] = [(view.shown, "picture"), (heat_views.colored(view.enlarge(heat)), "trained")]
    for stage in stages:
        where = f"random from {stage.layer}" if stage.name != "all" else "random, all layers"
        tiles.append((heat_views.colored(view.enlarge(stage.heat)), f"{where}\nrank correlation {stage.correlation:.2f}"))
    job.results.save_image(heat_views.figure(tiles, CASCADE_TILE), "sanity")


def _save_methods(
    config: SaliencyConfig,
    job: Job,
    network: Network,
    view: View,
    found: Explained,
    target: Target,
    row: dict[str, Any],
    masking: Masking | None,
) -> None:
    """NAME-methods.png: the picture once, and the map of each method with its scores, all of one size."""
    heats, scored = {config.method: found.heat}, {config.method: row}
    for method in config.methods[1:]:
        other = config.model_copy(update={"method": method})
        heats[method] = _explain(other, network, view.seen, target.logit, masking).heat
        scored[method] = _scores_of(other, network, view.seen, heats[method], target)
    tiles: list[Any] = [(view.shown, heat_views.caption(target, row["value"]))]
    for method, heat in heats.items():
        said = "\n".join([method, *(heat_views.beside_rivals(scored[method]) if config.score else ())])
        tiles.append((heat_views.colored(view.enlarge(heat)), said))
    job.results.save_image(heat_views.figure(tiles), "methods")
    if config.score:
        known = {method: {key: value for key, value in row.items() if "_auc" in key} for method, row in scored.items()}
        job.record.note(methods=known)


def _save_one(config: SaliencyConfig, job: Job, view: View, found: Explained, target: Target, row: dict[str, Any]) -> None:
    large = view.enlarge(found.heat)
    colors, over = heat_views.colored(large), heat_views.overlay(view.shown, large)
    said = f"{heat_views.caption(target, row['value'])}\nat {view.size_seen}"
    tiles: list[Any] = [(view.shown, said), (colors, config.method), (over, "overlay")]
    crisp = None
    if found.colors is not None:  # every pixel of it is one that the network saw, so it is enlarged by a whole factor
        factor = math.ceil(0.85 * heat_views.TILE / max(found.colors.shape[1:]))
        crisp = found.colors.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
        tiles[1] = (crisp, config.method)
    mask = _mask(config, job, view, found.heat, row) if config.segment else None
    if mask is not None:
        tiles.append((heat_views.cut_out(view.shown, mask), "object"))
    job.results.save_image(heat_views.figure(tiles, None if crisp is None else (crisp.shape[2], crisp.shape[1])))
    job.results.save_picture(colors, "heat")
    job.results.save_picture(over, "overlay")
    if crisp is not None:
        job.results.save_picture(crisp, "colors")
    if mask is not None:
        job.results.save_picture(mask.float().expand(3, -1, -1), "mask")
    if config.raw:
        job.results.save_array(large, "heat")


def _mask(config: SaliencyConfig, job: Job, view: View, heat: Tensor, row: dict[str, Any]) -> Tensor | None:
    """The object (H, W) as it is shown; None, and why, where the map does not say where it is."""
    if config.method == "masker":
        found = heat > 0.5
    else:
        row["map_concentration"] = concentration(heat)
        found = object_mask(view.seen[0], heat)
        if not bool(found.any()):
            job.warn(
                f"{view.source.name}: no object is cut out, since the map of {config.method} is spread over the picture "
                f"({row['map_concentration']:.0%} of it on its strongest fifth). Another method or target may help."
            )
            row["object_share"] = None
            return None
    mask = view.enlarge(found.float()) > 0.5
    row["object_share"] = float(mask.float().mean())
    return mask
