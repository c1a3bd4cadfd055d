"""`cnnvis occlude`: which part of the picture the network cannot do without."""

from __future__ import annotations

import sys
from typing import Any

import torch

from cnnvis_cli.commands.heat.many import MapSheet, folders_are_classes
from cnnvis_cli.commands.shared import heat_views
from cnnvis_cli.commands.shared.described import shows
from cnnvis_cli.commands.shared.fill import parse_fill
from cnnvis_cli.commands.shared.heat_views import View
from cnnvis_cli.config.occlude import OccludeConfig
from cnnvis_cli.engine.attribution.occlusion import Occlusion, fill_image, occlude
from cnnvis_cli.engine.attribution.targets import Target, resolve_target
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.read import find_pictures


def run(config: OccludeConfig, job: Job) -> None:
    network = job.inputs.network(config)
    sources = find_pictures(config.image)
    maps, rows = MapSheet(network.size, folders_are_classes(sources)), []
    for view in heat_views.views(job, network, sources, config.size, config.crop):
        target = resolve_target(config.target, network, view.seen)
        found = _occlude(config, job, network, view, target)
        shows(job.record, [target.logit])
        scores = _scores_of(config, network, view, target, found)
        rows.append({"picture": view.source.name, "seen_at": view.size_seen, **scores})
        if len(sources) == 1:
            _save_one(config, job, view, target, found, rows[0])
        else:
            said = heat_views.caption(target, rows[-1]["value"])
            rows[-1] |= maps.add(view, view.enlarge(found.heat), target.label, said)
    if len(sources) > 1:
        maps.save(job)
    heat_views.record(job, rows)


def _occlude(config: OccludeConfig, job: Job, network: Network, view: View, target: Target) -> Occlusion:
    image = view.seen[0]
    window = config.window or max(1, round(min(image.shape[1:]) / 7), config.stride or 1)
    stride = config.stride or max(1, window // 4)
    fill = fill_image(network, image, parse_fill(config.fill, "fill"), torch.Generator().manual_seed(config.seed))
    with job.track(f"occlude {view.source.name}", 100) as bar:

        def progress(done: int, total: int) -> None:
            job.check_interrupt()
            bar.advance(100 * done // total, f"{done}/{total} windows")

        found = occlude(
            network, image, target.logit if config.measure == "logit" else target.judged, fill,
            window=(window, window), stride=(stride, stride), check=config.check, way=config.evaluation, batch=config.batch,
            progress=progress,
        )  # fmt: skip
    if found.reason and config.evaluation != "plain":
        print(f"{view.source.name}: evaluated the plain way, since {found.reason}", file=sys.stderr)
    return found


def _scores_of(config: OccludeConfig, network: Network, view: View, target: Target, found: Occlusion) -> dict[str, Any]:
    """What the sidecar says about one picture."""
    row: dict[str, Any] = {
        "target": target.label,
        "value": found.clean,
        "windows": found.drops.numel(),
        "largest_drop": float(found.drops.max()),
        "most_important_window": dict(zip(("top", "left", "height", "width"), _shown_box(view, found), strict=True)),
        "recomputed": "boxes" if found.incremental else "everything",
    }
    if found.difference is not None:
        row["largest_difference_from_the_plain_way"] = found.difference
    if found.reason:
        row["reason"] = found.reason
    if config.score:
        row |= heat_views.faithfulness(network, view.seen, found.heat, target)
    return row


def _shown_box(view: View, found: Occlusion) -> tuple[float, float, float, float]:
    """The most important window in pixels of the picture as it is shown."""
    down, across = (view.shown.shape[axis] / view.seen.shape[axis] for axis in (2, 3))
    top, left, height, width = found.most_important
    return top * down, left * across, height * down, width * across


def _save_one(config: OccludeConfig, job: Job, view: View, target: Target, found: Occlusion, row: dict[str, Any]) -> None:
    large = view.enlarge(found.heat.to(view.shown.device))
    colors, over = heat_views.colored(large), heat_views.overlay(view.shown, large)
    box = heat_views.framed(view.shown, _shown_box(view, found))
    fall = found.clean - row["largest_drop"]
    value = heat_views.caption(target, found.clean) if config.measure == "probability" else f"{target.label} {found.clean:.3g}"
    tiles: list[Any] = [
        (box, f"{value} at {view.size_seen}"),
        (colors, f"drop of {config.measure if target.index is not None else target.label}"),
        (over, f"window covered: {fall:.0%}" if config.measure == "probability" and target.index is not None else "overlay"),
    ]
    job.results.save_image(heat_views.figure(tiles))
    job.results.save_picture(colors, "heat")
    job.results.save_picture(over, "overlay")
    if config.raw:
        job.results.save_array(large, "heat")
