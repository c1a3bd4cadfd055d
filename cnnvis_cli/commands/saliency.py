"""`cnnvis saliency`: what in this picture made the network say so."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from cnnvis_cli import heatmaps
from cnnvis_cli.config.saliency import SaliencyConfig
from cnnvis_cli.engine import attribution
from cnnvis_cli.engine.faithfulness import sanity_check
from cnnvis_cli.engine.network import Network
from cnnvis_cli.engine.objectives import Objective
from cnnvis_cli.engine.occlusion import fill_image, parse_fill
from cnnvis_cli.engine.segmentation import object_mask
from cnnvis_cli.engine.targets import Target, resolve_target
from cnnvis_cli.heatmaps import Gallery, View
from cnnvis_cli.job import Job
from cnnvis_cli.outputs import to_image
from cnnvis_cli.pictures import find_pictures


def run(config: SaliencyConfig, job: Job) -> None:
    network = job.network()
    sources = find_pictures(config.image)
    gallery, rows = Gallery(network.size), []
    with job.track(f"saliency {config.method}", len(sources)) as bar:
        for view in heatmaps.views(job, network, sources, config.size, config.crop):
            target = resolve_target(config.target, network, view.seen)
            heat = _heat(config, network, view.seen, target.logit)
            rows.append({"picture": view.source.name, **_judge(config, network, view.seen, heat, target)})
            if len(sources) == 1:
                _save_one(config, job, view, heat, target, rows[0])
            else:
                gallery.add(view, view.enlarge(heat), target.label, heatmaps.caption(target, rows[-1]["value"]))
            bar.advance(len(rows) + len(job.skipped))
    if len(sources) > 1:
        job.save_image(gallery.sheet())
        job.save_image(gallery.mean_sheet(), "means")
    heatmaps.record(job, rows)


def _heat(config: SaliencyConfig, network: Network, image: Tensor, target: Objective) -> Tensor:
    """The map (h, w) of a picture (1, 3, h, w) by the method that the config names."""
    generator = torch.Generator().manual_seed(config.seed)
    layer = config.layer or None
    pixels: dict[str, Callable[[Network, Tensor, Objective], Tensor]] = {
        "gradient": attribution.gradient,
        "smoothgrad": partial(attribution.smoothgrad, generator=generator, samples=config.samples, noise=config.noise),
        "guided_backprop": attribution.guided_backprop,
        "guided_grad_cam": partial(attribution.guided_grad_cam, layer=layer),
    }
    if config.method in pixels:
        heat = attribution.strongest(pixels[config.method](network, image, target))[0]
    elif config.method == "gradient_times_input":
        heat = attribution.contribution(attribution.gradient_times_input(network, image, target))[0]
    elif config.method == "integrated_gradients":
        start = fill_image(network, image[0], parse_fill(config.baseline, "baseline"), generator)[None]
        shares = attribution.integrated_gradients(network, image, target, start=start, steps=config.steps)
        heat = attribution.contribution(shares)[0]
    else:
        layer = layer or attribution.grad_cam_layer(network, target)
        maps = attribution.grad_cam(network, image, target, layer)
        heat = attribution.over_picture(network, image, layer, maps)[0]
    return _smoothed(heat, config.smooth / 100 * min(heat.shape))


def _smoothed(heat: Tensor, sigma: float) -> Tensor:
    if sigma < 0.1:
        return heat
    side = 2 * min(max(1, round(3 * sigma)), min(heat.shape) - 1) + 1
    return gaussian_blur(heat[None], [side, side], [sigma, sigma])[0]


def _judge(config: SaliencyConfig, network: Network, image: Tensor, heat: Tensor, target: Target) -> dict[str, Any]:
    """What the sidecar says about one picture."""
    row: dict[str, Any] = {"target": target.label, "value": float(attribution.score(network, image, target.judged))}
    generator = torch.Generator().manual_seed(config.seed)
    if config.score:
        row |= heatmaps.faithfulness(network, image, heat, target, generator)
    if config.sanity:
        explain = partial(_heat, config, image=image, target=target.logit)
        correlations = sanity_check(network, lambda other: explain(network=other), generator)
        row["rank_correlation_when_randomized"] = dict(zip(("last_layer", "half", "all"), correlations, strict=True))
    return row


def _save_one(config: SaliencyConfig, job: Job, view: View, heat: Tensor, target: Target, row: dict[str, Any]) -> None:
    large = view.enlarge(heat)
    colors, over = heatmaps.colored(large), heatmaps.overlay(view.shown, large)
    tiles = [(to_image(view.shown), heatmaps.caption(target, row["value"])), (colors, config.method), (over, "overlay")]
    if config.segment:
        mask = view.enlarge(object_mask(view.seen[0], heat).float()) > 0.5
        tiles.append((heatmaps.outlined(view.shown, mask), "object"))
        row["object_share"] = float(mask.float().mean())
    job.save_image(heatmaps.figure(tiles))
    job.save_image(colors, "heat")
    job.save_image(over, "overlay")
    if config.segment:
        job.save_picture(mask.float().expand(3, -1, -1), "mask")
    if config.raw:
        job.save_array(large, "heat")
