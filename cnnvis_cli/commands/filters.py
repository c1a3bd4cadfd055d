"""`cnnvis filters`: a convolution's weights as pictures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnvis_cli.config.filters import FiltersConfig
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.objective_syntax import parse_numbers
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.matrix import tile_matrix
from cnnvis_cli.pictures.sheet import enlarged, framed, sheet
from cnnvis_cli.pictures.write import to_image

# Side of a tile in pixels, about; filters and input channels that are shown of a deeper layer unless others are asked for, of
# kernels of one value more; a filter of less than this share of the largest norm is dead.
TILE, FEW, MANY, DEAD = 48, 16, 64, 0.01
FRAME = (255, 70, 60)


def run(config: FiltersConfig, job: Job) -> None:
    network = job.inputs.network(config)
    layer, weights = _weights(network, config.layer)
    single = weights.shape[1] in (1, 3)
    point = weights.shape[2:] == (1, 1)
    few = MANY if point else FEW
    count, inputs = weights.shape[:2]
    everything = f"0-{(count if single else min(few, count)) - 1}"
    chosen = parse_numbers(config.channel or everything, count, f"filter of {layer}")
    chosen = _sorted(chosen, weights, config.sort)
    seen = list(range(inputs))
    if not single:
        seen = parse_numbers(config.inputs or f"0-{min(few, inputs) - 1}", inputs, f"input channel of {layer}")
    zoom = config.zoom or max(1, round((TILE / 4 if point and not single else TILE) / max(weights.shape[2:])))
    picked = weights[chosen] if single else weights[chosen][:, seen]
    norms = weights.flatten(1).norm(dim=1)
    dead = [number for number in chosen if norms[number] < DEAD * norms.max()]
    job.record.shows(layers=[layer])
    # Each filter on its own scale, so that which of its inputs it weighs can be seen.
    span = weights.abs().max() if config.scale == "all" else picked.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
    shades = 0.5 + 0.5 * picked / span
    if single:
        images = [enlarged(to_image(picture.expand(3, -1, -1)), zoom) for picture in shades]
        images = [framed(i, FRAME, 2) if number in dead else i for i, number in zip(images, chosen, strict=True)]
        captions = [f"{number} dead" if number in dead else str(number) for number in chosen]
        job.results.save_image(sheet(images, captions, columns=config.columns).image)
    else:
        rows = [f"{number} dead" if number in dead else str(number) for number in chosen]
        marked = [place for place, number in enumerate(chosen) if number in dead]
        page = tile_matrix(shades, rows, list(map(str, seen)), zoom, gap=0 if point else 2, marked=marked)
        job.results.save_image(page)
    if config.raw:
        job.results.save_array(picked, "weights")
    job.scores.update(
        layer=layer,
        filters=count,
        inputs=inputs,
        kernel=list(weights.shape[2:]),
        dead_filters=int((norms < DEAD * norms.max()).sum()),
    )
    job.record.note(shown=chosen, inputs_shown=None if single else seen, norms=norms[chosen], dead=dead)


def _weights(network: Network, name: str) -> tuple[str, Tensor]:
    """(filters, inputs, height, width) of a convolution. Raises UserError that lists those there are."""
    modules = dict(network.module.named_modules())
    convolutions = [known for known in network.layers if isinstance(modules[known], nn.Conv2d)]
    if not convolutions:
        raise UserError(f"{network.name} has no convolutions.")
    layer = network.layer(name) if name else network.layer(convolutions[0])
    module = modules[layer.name]
    if not isinstance(module, nn.Conv2d):
        near = [c for c in convolutions if network.layers[c].order < layer.order] or convolutions
        raise UserError(f"{name} is a {layer.kind} and has no filters; the convolution before it is {near[-1]}.")
    return name or layer.name, module.weight.detach().float().cpu()


def _sorted(chosen: list[int], weights: Tensor, sort: str) -> list[int]:
    if sort == "none":
        return chosen
    flat = weights[chosen].flatten(1)
    norms = flat.norm(dim=1)
    if sort == "norm":
        return [chosen[i] for i in norms.argsort(descending=True).tolist()]
    return [chosen[i] for i in _chain(F.normalize(flat, dim=1) @ F.normalize(flat, dim=1).T, int(norms.argmax()))]


def _chain(similarity: Tensor, first: int) -> list[int]:
    """From `first` always to the most similar one that is left."""
    order, left = [first], torch.ones(len(similarity), dtype=torch.bool)
    left[first] = False
    while left.any():
        order.append(int(similarity[order[-1]].masked_fill(~left, -2).argmax()))
        left[order[-1]] = False
    return order
