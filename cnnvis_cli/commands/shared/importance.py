"""What `invert` says about single channels: how much each matters to what follows, and what pruning the least costs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cnnvis_cli.config.invert import InvertConfig
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.synthesis import inversion
from cnnvis_cli.engine.units import importance
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.plots import line, ranked
from cnnvis_cli.pictures.read import find_pictures, to_square
from cnnvis_cli.pictures.sheet import sheet

# Pictures on which the order of pruning is found, and points of its curve.
_FOR_ORDER, _POINTS = 16, 9


def rank_channels(
    config: InvertConfig, job: Job, network: Network, original: Tensor, invert: Callable[[Tensor], Tensor]
) -> None:
    """A ranked table, a bar plot, and the inversions without the most and the least important channels.

    `invert` gives the inversions (K, 3, H, W) of the code under masks (K, C). The change that the table has is the root mean
    square difference from the inversion under a mask that removes nothing.
    """
    layer = config.layers[0]
    values = importance.channel_importance(network, original, layer, config.following or None)[0].cpu()
    order = values.argsort(descending=True).tolist()
    maps = inversion.layer_code(network, layer, original)[0].flatten(1).mean(1).tolist()
    count = min(config.reconstruct, len(order) // 2)
    chosen = [*order[:count], *order[len(order) - count :]]
    changes: dict[int, float] = {}
    if chosen:
        masks = torch.ones(1 + len(chosen), len(order))
        masks[torch.arange(1, len(masks)), chosen] = 0
        pictures = invert(masks)
        captions = ["all", *(f"without {channel}" for channel in chosen)]
        job.results.save_image(sheet(list(pictures), captions, columns=1 + count).image, "without")
        apart = (pictures[1:] - pictures[:1]).square().flatten(1).mean(1).sqrt().tolist()
        changes = dict(zip(chosen, apart, strict=True))
    rows = [
        [rank, channel, values[channel].item(), maps[channel], changes.get(channel, "")]
        for rank, channel in enumerate(order, start=1)
    ]
    job.results.save_csv(["rank", "channel", "importance", "mean_activation", "reconstruction_change"], rows, "channels")
    following = importance.following_layer(network, layer, config.following or None)
    heights = [values[channel].item() for channel in order]
    picture = ranked([str(channel) for channel in order], heights, f"channel of {layer}, ranked", f"change of {following}")
    job.results.save_image(picture, "channels")
    job.scores["most_important_channels"] = order[:5]
    total = max(values.sum().item(), 1e-12)
    job.scores["share_of_the_top_tenth"] = sum(heights[: max(1, len(order) // 10)]) / total


def read_labelled(config: InvertConfig, job: Job, network: Network) -> tuple[Tensor, Tensor]:
    """Pictures (N, 3, H, W) of the labelled folder as the network was tested on, and their class indices (N,)."""
    sources = find_pictures(config.labelled)
    try:
        labels = torch.tensor([network.class_index(source.label) for source in sources])
    except UserError as error:
        raise UserError(f"labelled={config.labelled}: its subfolders must be classes of {network.name}. {error}") from None
    prepare = network.preprocessing
    return torch.cat([to_square(job.inputs.read(source), prepare.size, prepare.resize) for source in sources]), labels


def prune_channels(config: InvertConfig, job: Job, network: Network, pictures: Tensor, labels: Tensor) -> None:
    """The curve of accuracy on the labelled folder as the least important channels go, against random ones."""
    layer = config.layers[0]
    examples = pictures[:: max(1, len(pictures) // _FOR_ORDER)][:_FOR_ORDER]
    values = importance.channel_importance(network, examples, layer, config.following or None).mean(0)
    fractions = np.linspace(0, config.prune, _POINTS).tolist()
    with job.track(f"pruning {layer}", (1 + config.draws) * _POINTS) as bar:
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            bar.advance(done)
            job.check_interrupt()

        curve = importance.pruning_curve(
            network,
            pictures,
            labels,
            layer,
            values.cpu(),
            fractions,
            draws=config.draws,
            generator=torch.Generator().manual_seed(config.seed),
            on_step=tick,
        )
    average, spread = curve.random.mean(0).tolist(), curve.random.std(0, correction=0).tolist()
    rows = list(zip(curve.fractions, curve.removed, curve.least.tolist(), average, spread, strict=True))
    job.results.save_csv(["fraction", "removed", "accuracy_least_important", "accuracy_random", "random_std"], rows, "prune")
    series = {"least important first": (fractions, curve.least.tolist()), "random": (fractions, average)}
    job.results.save_image(line(series, f"share of {layer}'s channels removed", "accuracy"), "prune")
    job.scores["accuracy"] = curve.least[0].item()
    job.scores[f"accuracy_without_{config.prune:.0%}_least_important"] = curve.least[-1].item()
    job.scores[f"accuracy_without_{config.prune:.0%}_random"] = average[-1]
