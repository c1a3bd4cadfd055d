"""`cnnvis saliency`: what in this picture made the network say so."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cnnvis_cli.commands.shared import heat_views
from cnnvis_cli.commands.shared.described import shows
from cnnvis_cli.commands.shared.fill import parse_fill
from cnnvis_cli.commands.shared.heat_views import MapSheet, View
from cnnvis_cli.commands.shared.masking import Masking
from cnnvis_cli.config.saliency import SaliencyConfig
from cnnvis_cli.engine.attribution import gradients
from cnnvis_cli.engine.attribution.faithfulness import sanity_check
from cnnvis_cli.engine.attribution.occlusion import fill_image
from cnnvis_cli.engine.attribution.segmentation import object_mask
from cnnvis_cli.engine.attribution.targets import Target, resolve_target
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.evaluate import score
from cnnvis_cli.engine.optim.objectives import Objective
from cnnvis_cli.engine.pixels import gaussian_blur
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.read import find_pictures


def run(config: SaliencyConfig, job: Job) -> None:
    network = job.inputs.network(config)
    sources = find_pictures(config.image)
    masking = Masking(config, config.masker, job) if config.method == "masker" else None
    maps, rows = MapSheet(network.size), []
    with job.track(f"saliency {config.method}", len(sources)) as bar:
        for view in heat_views.views(job, network, sources, config.size, config.crop):
            target = resolve_target(config.target, network, view.seen)
            heat = _heat(config, network, view.seen, target.logit, masking)
            shows(job.record, [target.logit])
            scores = _scores_of(config, network, view.seen, heat, target, masking)
            rows.append({"picture": view.source.name, "seen_at": view.size_seen, **scores})
            if len(sources) == 1:
                _save_one(config, job, view, heat, target, rows[0])
            else:
                maps.add(view, view.enlarge(heat), target.label, heat_views.caption(target, rows[-1]["value"]))
            bar.advance(len(rows) + len(job.inputs.skipped))
    if len(sources) > 1:
        job.results.save_image(maps.sheet())
        job.results.save_image(maps.mean_sheet(), "means")
    heat_views.record(job, rows)


def _heat(config: SaliencyConfig, network: Network, image: Tensor, target: Objective, masking: Masking | None = None) -> Tensor:
    """The map (h, w) of a picture (1, 3, h, w) by the method that the config names."""
    generator = torch.Generator().manual_seed(config.seed)
    layer = config.layer or None
    pixels: dict[str, Callable[[Network, Tensor, Objective], Tensor]] = {
        "gradient": gradients.gradient,
        "smoothgrad": partial(gradients.smoothgrad, generator=generator, samples=config.samples, noise=config.noise),
        "guided_backprop": gradients.guided_backprop,
        "guided_grad_cam": partial(gradients.guided_grad_cam, layer=layer),
    }
    if config.method in pixels:
        heat = gradients.strongest(pixels[config.method](network, image, target))[0]
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
    return _smoothed(heat, config.smooth / 100 * min(heat.shape))


def _smoothed(heat: Tensor, sigma: float) -> Tensor:
    if sigma < 0.1:
        return heat
    return gaussian_blur(heat[None], min(max(1, round(3 * sigma)), min(heat.shape) - 1), sigma)[0]


def _scores_of(
    config: SaliencyConfig, network: Network, image: Tensor, heat: Tensor, target: Target, masking: Masking | None
) -> dict[str, Any]:
    """What the sidecar says about one picture."""
    row: dict[str, Any] = {"target": target.label, "value": float(score(network, target.judged, image))}
    generator = torch.Generator().manual_seed(config.seed)
    if config.score:
        row |= heat_views.faithfulness(network, image, heat, target)
    if config.sanity:
        explain = partial(_heat, config, image=image, target=target.logit, masking=masking)
        correlations = sanity_check(network, lambda other: explain(network=other), generator)
        row["rank_correlation_when_randomized"] = dict(zip(("last_layer", "half", "all"), correlations, strict=True))
    return row


def _save_one(config: SaliencyConfig, job: Job, view: View, heat: Tensor, target: Target, row: dict[str, Any]) -> None:
    large = view.enlarge(heat)
    colors, over = heat_views.colored(large), heat_views.overlay(view.shown, large)
    said = f"{heat_views.caption(target, row['value'])} at {view.size_seen}"
    tiles: list[Any] = [(view.shown, said), (colors, config.method), (over, "overlay")]
    if config.segment:
        found = heat > 0.5 if config.method == "masker" else object_mask(view.seen[0], heat)
        mask = view.enlarge(found.float()) > 0.5
        tiles.append((heat_views.cut_out(view.shown, mask), "object"))
        row["object_share"] = float(mask.float().mean())
    job.results.save_image(heat_views.figure(tiles))
    job.results.save_picture(colors, "heat")
    job.results.save_picture(over, "overlay")
    if config.segment:
        job.results.save_picture(mask.float().expand(3, -1, -1), "mask")
    if config.raw:
        job.results.save_array(large, "heat")
