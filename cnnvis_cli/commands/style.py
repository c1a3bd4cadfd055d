"""`cnnvis style`: the content of one picture in the style of others."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.commands.shared import multiscale, style_pass, transfer_pass
from cnnvis_cli.commands.shared.multiscale import DEFAULT_SIZE, Multiscale, ScalePlan
from cnnvis_cli.config.base import stem
from cnnvis_cli.config.style import StyleConfig, cells
from cnnvis_cli.engine.locality.tiling import Tiled
from cnnvis_cli.engine.network.modifications import padded, pooled
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.loop import Loop
from cnnvis_cli.engine.pixels import eight_bit, luma
from cnnvis_cli.engine.statistics import Summary
from cnnvis_cli.engine.synthesis.colors import recolored, with_colors_of
from cnnvis_cli.engine.synthesis.style import (
    Region,
    StyleLoss,
    balance,
    content_features,
    other_layers,
    shares,
    stride,
    summarize,
)
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.read import resize
from cnnvis_cli.pictures.sheet import sheet

PAPER_STRENGTHS = (0.1, 0.3, 0.6, 0.9)


def run(config: StyleConfig, job: Job) -> None:
    if config.grid:
        _grid(config, job)
    elif config.in_one_pass:
        style_pass.run(config, job)
    elif config.transfers:
        transfer_pass.run(config, job)
    else:
        transfer = Transfer(config, job, job.inputs.network(config))
        picture, run = transfer.run("loop")
        job.scores.update(transfer.scores(job.results.save_picture(picture), run.plan))
        run.note(job)


def _grid(config: StyleConfig, job: Job) -> None:
    """A sheet over one or two keys; with `method` among them, one table of scores and seconds over ways to make the picture."""
    network = job.inputs.network(config)
    grid = config.grid if isinstance(config.grid, Mapping) else _paper(list(multiscale.layer_weights(config, network)))
    changes = cells(grid)
    # The whole list of layers picks the content's: in the paper's figure it stays the same from row to row.
    content = list(config.content_layers) or default_content(list(multiscale.layer_weights(config, network)))
    configs = [config.changed(change) for change in changes]
    styles = _styles_of(changes, configs, job)
    transfers = [
        Transfer(one.model_copy(update={"content_layers": tuple(content)}), job, network, style)
        for one, style in zip(configs, styles, strict=True)
    ]
    made = [
        _cell(one, transfer, f"{number}/{len(changes)}", None if "budget" in grid else number / len(changes))
        for number, (one, transfer) in enumerate(zip(configs, transfers, strict=True), 1)
    ]
    # A PNG holds these very pixels; they are measured before it is written, as the numbers stand on it.
    held = [eight_bit(cell.picture) for cell in made]
    rows = []
    for change, one, cell, picture in zip(changes, transfers, made, held, strict=True):
        timed = {"seconds": round(cell.seconds, 3)} if "method" in grid else {}
        rows.append(change | one.scores(picture, cell.plan) | cell.ended | timed)
    captions = [_caption(change, row, grid) for change, row in zip(changes, rows, strict=True)]
    page = sheet([picture[0] for picture in held], captions, columns=len(list(grid.values())[-1]))
    job.results.save_image(page.image)
    job.scores["pictures"] = rows
    if "method" in grid:
        header = list(dict.fromkeys(key for row in rows for key in row))
        job.results.save_csv(header, [[_plain(row.get(key, "")) for key in header] for row in rows], "table")


@dataclass(frozen=True)
class Cell:
    """A picture of a grid (1, 3, H, W), the plan and the end of the optimizer's run (none of a pass), and how long it took."""

    picture: Tensor
    plan: ScalePlan
    ended: dict[str, Any]
    seconds: float


def _cell(config: StyleConfig, transfer: Transfer, key: str, share: float | None) -> Cell:
    """`share`: of the budget, that is to be spent when it is done; None: the cell has a budget of its own."""
    job, began = transfer.job, time.perf_counter()
    if config.optimizes:
        ends = None if config.budget is None else job.spent() + config.budget if share is None else config.budget * share
        picture, run = transfer.run(key, ends)
        ended = {"stopped": [outcome.stopped for outcome in run.outcomes]}
        return Cell(picture, run.plan, ended, time.perf_counter() - began)
    size = config.size or DEFAULT_SIZE
    content = resize(transfer.content, *transfer.shape(size))
    if config.in_one_pass:
        painter = style_pass.Painter(config, job)
        began = time.perf_counter()
        picture = painter.one(content)
    else:
        passing = transfer_pass.TransferPass(config, job, transfer.network, transfer.styles)
        began = time.perf_counter()
        picture = passing.one(content)
    return Cell(picture, ScalePlan((size,), 0, 0, 0.0, 0.0), {}, time.perf_counter() - began)


def default_content(layers: list[str]) -> list[str]:
    """The last style layer but one: relu4_1 of relu1_1 ... relu5_1."""
    return layers[-2:][:1]


def _paper(layers: list[str]) -> dict[str, list[Any]]:
    """Figure 3 of Gatys et al. 2015: statistics up to each layer by the strength of the style."""
    return {"style_layers": [layers[:count] for count in range(1, len(layers) + 1)], "strength": list(PAPER_STRENGTHS)}


def _caption(change: Mapping[str, Any], scores: Mapping[str, Any], grid: Mapping[str, Sequence[Any]]) -> str:
    def shown(key: str, value: Any) -> str:
        if not isinstance(value, list | tuple):
            return stem(value) if isinstance(value, str) else str(value)
        ordered = key in ("style_layers", "content_layers", "levels") and len(grid[key]) > 1
        growing = ordered and all(list(longer[: len(shorter)]) == list(shorter) for shorter, longer in pairwise(grid[key]))
        return f"to {value[-1]}" if growing else "+".join(shown(key, one) for one in value)

    lines = [f"{key.removeprefix('style_')} {shown(key, value)}" for key, value in change.items()]
    return "\n".join([*lines, f"style left {scores['style_ratio']:.0%}", f"content {scores['content_distance']:.2f}"])


def _plain(value: Any) -> Any:
    """A cell of a table."""
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else value


def _styles_of(changes: list[dict[str, Any]], configs: list[StyleConfig], job: Job) -> Sequence[list[Tensor] | None]:
    """What each cell is painted in and measured by: where methods are compared, the same for each of them, also where a
    stylizer brings its own. None: the config's own."""
    if "method" not in changes[0]:
        return [None] * len(changes)
    others = [str([value for key, value in change.items() if key != "method"]) for change in changes]
    # Of the cells that differ in the method alone one in one pass, if there is any, names the style.
    naming = dict(zip(others, configs, strict=True))
    naming |= {other: one for other, one in zip(others, configs, strict=True) if one.in_one_pass}
    found = {other: style_pass.style_pictures(one, job) for other, one in naming.items()}
    return [found[other] for other in others]


class Transfer:
    """One picture from its config: what is read, planned, run, and measured."""

    def __init__(self, config: StyleConfig, job: Job, network: Network, styles: list[Tensor] | None = None) -> None:
        if config.start == "stylizer":  # no small scales first: the pass is made at the size of the result
            config = config.model_copy(update={"smallest": max(config.smallest, config.size or 256)})
        self.config, self.job, self.network = config, job, network
        self.layers = multiscale.layer_weights(config, network)
        names = config.content_layers or default_content(list(self.layers))
        weights = config.content_weights or [1.0] * len(names)
        if len(weights) != len(names):
            raise UserError(f"content_weights: {len(weights)} for {len(names)} content_layers ({', '.join(names)}).")
        self.content_layers = dict(zip(names, weights, strict=True))
        for layer in names:
            multiscale.check_maps(network, layer)
        self.content = job.inputs.read_one(config.content)
        self.styles = style_pass.style_pictures(config, job) if styles is None else styles
        if config.colors == "histogram":
            self.styles = [recolored(one, self.content) for one in self.styles]
        equal = dict.fromkeys(map(str, range(len(self.styles))), 1.0)
        given = dict(zip(equal, config.style_shares, strict=True)) if config.style_shares else equal
        self.shares = list(shares(given).values())
        self.masks = self._read_masks()
        self.smooth = multiscale.smoothing(config, network)
        self._check_sizes()

    def _read_masks(self) -> list[Tensor]:
        masks = [luma(self.job.inputs.read_one(what)) for what in self.config.masks]
        for name, mask in zip(self.config.masks, masks, strict=True):
            if mask.shape[-2:] != self.content.shape[-2:]:
                (mh, mw), (h, w) = mask.shape[-2:], self.content.shape[-2:]
                raise UserError(f"the mask {name} is {mw} x {mh} px and the content {w} x {h}. They must be of one size.")
            if not bool(mask.any()):
                raise UserError(f"the mask {name} is black all over: its style would go nowhere.")
        return masks

    def _check_sizes(self) -> None:
        deepest = max(stride(self.network, layer) for layer in [*self.layers, *self.content_layers])
        size = min(self.config.smallest, self.config.size or self.config.smallest)
        height, width = self.shape(size)
        for name, short in (("content", min(self.content.shape[-2:])), *[("style", min(s.shape[-2:])) for s in self.styles]):
            if short < 2 * deepest:
                raise UserError(
                    f"the {name} is only {short} px high or wide; {self.network.name}'s deepest layer asked for needs "
                    f"{2 * deepest}. Take shallower style_layers or a larger picture."
                )
        if min(height, width) < 2 * deepest:
            raise UserError(
                f"at the first scale the picture is {width} x {height} px; the deepest layer asked for needs {2 * deepest}. "
                f"Raise smallest and size, or take shallower style_layers."
            )

    def shape(self, size: int) -> tuple[int, int]:
        """(height, width) with a long side of `size`."""
        height, width = self.content.shape[-2:]
        return max(1, round(height * size / max(height, width))), max(1, round(width * size / max(height, width)))

    def _variant(self) -> AbstractContextManager[Any]:
        stack = ExitStack()
        stack.enter_context(padded(self.network, self.config.padding))
        stack.enter_context(pooled(self.network, self.config.pooling))
        return stack

    def run(self, key: str, ends: float | None = None) -> tuple[Tensor, Multiscale]:
        """The picture (1, 3, H, W), and how it was made. `ends`: as for `run_multiscale`."""
        config = self.config
        additive = config.statistic != "sliced" and not self.smooth
        with self._variant():
            height, width = self.shape(1000)
            run = multiscale.run_multiscale(
                self.job,
                config,
                self._loop,
                key,
                size=config.size,
                largest=max(self.content.shape[-2:]),
                aspect=min(height, width) / 1000,
                tileable=additive,
                ends=ends,
            )
        result = self._cropped(run.pictures, run.plan.sizes[-1])
        if config.colors == "content":
            result = with_colors_of(result, resize(self.content, *result.shape[-2:]))
        return result, run

    def _bleed(self, size: int) -> int:
        return min(self.config.bleed, min(self.shape(size)) // 2)

    def _cropped(self, pictures: Tensor, size: int) -> Tensor:
        height, width = self.shape(size)
        bleed = self._bleed(size)
        return pictures[..., bleed : bleed + height, bleed : bleed + width]

    def _loop(self, plan: ScalePlan, size: int, number: int, before: Tensor | None) -> Loop:
        config, network = self.config, self.network
        update = multiscale.update_of(config, changing=False, tiled=plan.tile > 0)
        height, width = self.shape(size)
        bleed = [self._bleed(size)] * 4

        def bled(pictures: Tensor) -> Tensor:
            return F.pad(resize(pictures, height, width), bleed, mode="reflect")

        generator = torch.Generator().manual_seed(config.seed + number)
        start = self._start(bled, generator, size) if before is None else bled(self._cropped(before, plan.sizes[number - 1]))
        tile = plan.tile_at(size)
        tiled = Tiled(network, [*self.layers, *self.content_layers], tile) if tile else None
        code = content_features(network, bled(self.content), list(self.content_layers), smooth=self.smooth, tiled=tiled)
        statistic = multiscale.statistic_of(config, generator, update == "adam")
        loss = StyleLoss(
            statistic,
            self._regions(statistic, size, bled, tiled),
            self.layers,
            self.content_layers,
            code,
            balance(config.strength),
            self.smooth,
        )
        return multiscale.loop_for(
            config, network, loss, start, steps=plan.steps, generator=generator, update=update, tiled=tiled
        )

    def _start(self, bled: Any, generator: torch.Generator, size: int) -> Tensor:
        if self.config.start == "noise":
            shape = bled(self.content).shape
            return (0.5 + 0.2 * torch.randn(shape, generator=generator)).clamp(0, 1).to(self.content.device)
        if self.config.start == "stylizer":
            return bled(style_pass.started(self.config, self.job, resize(self.content, *self.shape(size))))
        if self.config.start == "style":
            return bled(self.styles[0])
        if self.config.start != "content":
            return bled(self.job.inputs.read_one(self.config.start))
        start = bled(self.content)
        if self.config.colors == "style" and not self.masks:  # the palette at once: pixel by pixel it takes hundreds of steps
            dyed = sum(share * recolored(start, one) for share, one in zip(self.shares, self.styles, strict=True))
            start = torch.lerp(start, torch.as_tensor(dyed), self.config.strength)
        return start

    def _style_at(self, style: Tensor, size: int) -> Tensor:
        """A style picture at the size that gives its strokes the size asked for; never enlarged."""
        height, width = style.shape[-2:]
        factor = min(1.0, self.config.style_scale * size / max(height, width))
        deepest = 2 * max(stride(self.network, layer) for layer in self.layers)
        factor = max(factor, deepest / min(height, width))
        return resize(style, round(height * factor), round(width * factor))

    def _regions(self, statistic: Any, size: int, bled: Any, tiled: Tiled | None) -> list[Region]:
        layers = list(self.layers)
        summaries: list[dict[str, Summary]] = [
            summarize(self.network, self._style_at(one, size), statistic, layers, smooth=self.smooth, tiled=tiled)
            for one in self.styles
        ]

        def target(chosen: list[int], weights: list[float]) -> dict[str, Summary]:
            return {layer: statistic.target([summaries[i][layer] for i in chosen], weights) for layer in layers}

        if not self.masks:
            return [Region(target(list(range(len(self.styles))), self.shares))]
        areas = [mask.mean().item() * share for mask, share in zip(self.masks, self.shares, strict=True)]
        return [
            Region(target([i], [1.0]), area / sum(areas), bled(mask)[0, 0])
            for i, (mask, area) in enumerate(zip(self.masks, areas, strict=True))
        ]

    def scores(self, saved: Tensor, plan: ScalePlan) -> dict[str, Any]:
        """Measured on the saved file, at layers that were not optimized; with what the content and the style themselves get."""
        size = max(saved.shape[-2:])
        others = other_layers(self.network, self.layers)
        content = resize(self.content, *saved.shape[-2:])
        styles = [self._style_at(one, size) for one in self.styles]
        tile = plan.tile_at(size)
        with self._variant():

            def style_distance(picture: Tensor) -> float:
                return multiscale.distances(self.network, others, picture, styles, self.shares, tile)

            def content_distance(picture: Tensor) -> float:
                return multiscale.content_distance(self.network, list(self.content_layers), picture, content, tile)

            found = {
                "style_distance": style_distance(saved),
                "style_distance_of_content": style_distance(content),
                "content_distance": content_distance(saved),
                "content_distance_of_style": content_distance(resize(styles[0], *saved.shape[-2:])),
            }
        found["style_ratio"] = found["style_distance"] / max(found["style_distance_of_content"], 1e-9)
        self.job.record.note(score_layers=others)
        self.job.record.shows(layers=[*self.layers, *self.content_layers])
        return found
