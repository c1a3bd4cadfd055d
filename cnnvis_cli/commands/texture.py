"""`cnnvis texture`: more of a texture, from the statistics of an exemplar or from its patches."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.commands.shared import multiscale
from cnnvis_cli.commands.shared.multiscale import Multiscale, ScalePlan
from cnnvis_cli.config.texture import TextureConfig
from cnnvis_cli.engine.locality.tiling import Tiled
from cnnvis_cli.engine.network.modifications import padded, pooled
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.loop import Loop
from cnnvis_cli.engine.optim.transforms import jitter
from cnnvis_cli.engine.synthesis.colors import recolored
from cnnvis_cli.engine.synthesis.style import Region, StyleLoss, other_layers, stride, summarize, wraps
from cnnvis_cli.engine.texture import scores
from cnnvis_cli.engine.texture.resynthesis import grow, quilt
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.read import resize
from cnnvis_cli.pictures.sheet import sheet

# Channels that differ by less than this, of 1, are those of a grey picture.
COLOURLESS = 2 / 255


def run(config: TextureConfig, job: Job) -> None:
    network = job.inputs.network(config)
    exemplar = _exemplar(config, job)
    if config.method != "statistics":
        saved = job.results.save_picture(_from_patches(config, job, exemplar))
        job.scores.update(_scores(config, network, saved, exemplar, list(multiscale.layer_weights(config, network)), 0))
        return
    layers = multiscale.layer_weights(config, network)
    job.record.shows(layers=list(layers))
    if not config.strip:
        synthesis = Synthesis(config, job, network, exemplar, layers)
        picture, made = synthesis.run("loop")
        saved = job.results.save_picture(picture)
        job.scores.update(_scores(config, network, saved, exemplar, list(layers), made.plan.tile_at(max(config.size))))
        made.note(job)
        return
    names = list(layers)
    upto = [dict(list(layers.items())[:count]) for count in range(1, len(names) + 1)]
    pictures = [
        Synthesis(config, job, network, exemplar, some).run(f"{number}/{len(upto)}", number / len(upto))[0]
        for number, some in enumerate(upto, start=1)
    ]
    tiles = [exemplar[0], *(one[0] for one in pictures)]
    page = sheet(tiles, ["exemplar", *(f"to {name}" for name in names)], columns=len(tiles))
    saved = job.results.save_image(page.image)
    rows = [
        {"layers": list(some), **_scores(config, network, page.tile(saved, number), exemplar, list(some), 0)}
        for number, some in enumerate(upto, start=1)
    ]
    job.scores["pictures"] = rows


def _exemplar(config: TextureConfig, job: Job) -> Tensor:
    exemplar = job.inputs.read_one(config.exemplar)
    height, width = exemplar.shape[-2:]
    if config.exemplar_size and config.exemplar_size < max(height, width):
        factor = config.exemplar_size / max(height, width)
        exemplar = resize(exemplar, max(1, round(height * factor)), max(1, round(width * factor)))
    return exemplar


def _from_patches(config: TextureConfig, job: Job, exemplar: Tensor) -> Tensor:
    width, height = config.size
    rest: dict[str, Any] = {"nearest": config.nearest, "seed": config.seed, "tileable": config.tileable}
    with job.track(f"texture {job.name}", width * height) as bar:

        def done(pixels: int) -> None:
            bar.advance(pixels)
            job.check_interrupt()

        if config.method == "patches":
            return grow(exemplar, height, width, window=config.window, progress=done, **rest)
        return quilt(exemplar, height, width, block=config.block, progress=done, **rest)


def _scores(
    config: TextureConfig, network: Network, saved: Tensor, exemplar: Tensor, layers: list[str], tile: int
) -> dict[str, Any]:
    """Measured on the saved file: at layers that were not optimized, and without any network."""
    others = other_layers(network, layers)
    flat = recolored(torch.rand(exemplar.shape, generator=torch.Generator().manual_seed(config.seed)).to(exemplar), exemplar)
    with padded(network, config.padding), pooled(network, config.pooling):
        distance = multiscale.distances(network, others, saved, [exemplar], [1.0], tile)
        noise = multiscale.distances(network, others, flat, [exemplar], [1.0])
    found = {
        "style_distance": distance,
        "style_distance_of_noise": noise,
        "style_ratio": distance / max(noise, 1e-9),
        "copy_rate": scores.copy_rate(saved, exemplar),
        "spectrum_distance": scores.spectrum_distance(saved, exemplar),
    }
    if config.tileable:
        found["seam_ratio"] = scores.seam_ratio(saved)
        found["line_ratio"] = scores.line_ratio(saved)
    return found


class Synthesis:
    """A texture from noise by the statistics of some layers."""

    def __init__(self, config: TextureConfig, job: Job, network: Network, exemplar: Tensor, layers: dict[str, float]) -> None:
        self.config, self.job, self.network, self.exemplar, self.layers = config, job, network, exemplar, layers
        self.smooth = multiscale.smoothing(config, network)
        self.grey = bool((exemplar.amax(1) - exemplar.amin(1)).max() <= COLOURLESS)
        self.step = max(stride(network, layer) for layer in layers)
        with self._variant(wrapped=config.tileable):
            # Where the network sees a border all the same, the picture is rolled at every step.
            self.rolled = config.tileable and not wraps(network, list(layers), self.step)
        self._check_sizes()

    def _check_sizes(self) -> None:
        width, height = self.config.size
        if self.config.tileable and (width % self.step or height % self.step):
            near = [f"{max(1, round(side / self.step)) * self.step}" for side in (width, height)]
            raise UserError(
                f"the sides of a tileable texture must be multiples of {self.step} px, the stride of the deepest layer: "
                f"size={'x'.join(near)}."
            )
        smallest = multiscale.ladder(max(width, height), self.config.smallest)[0]
        for name, (high, wide) in (("exemplar", self._exemplar_shape(smallest)), ("result", self._shape(smallest))):
            if min(high, wide) < 2 * self.step:
                raise UserError(
                    f"at the first scale the {name} is {wide} x {high} px; the deepest layer asked for needs {2 * self.step}. "
                    f"Raise smallest, or take shallower style_layers or a larger {name}."
                )

    def _shape(self, size: int) -> tuple[int, int]:
        """(height, width) of the scale whose long side is `size`; on the grid of the strides if it is to wrap."""
        width, height = self.config.size
        factor = size / max(width, height)
        grid = self.step if self.config.tileable else 1
        return max(grid, round(height * factor / grid) * grid), max(grid, round(width * factor / grid) * grid)

    def _exemplar_shape(self, size: int) -> tuple[int, int]:
        factor = size / max(self.config.size)
        height, width = self.exemplar.shape[-2:]
        return max(1, round(height * factor)), max(1, round(width * factor))

    def _variant(self, *, wrapped: bool) -> AbstractContextManager[Any]:
        stack = ExitStack()
        stack.enter_context(padded(self.network, "circular" if wrapped else self.config.padding))
        stack.enter_context(pooled(self.network, self.config.pooling))
        return stack

    def run(self, key: str, share: float = 1.0) -> tuple[Tensor, Multiscale]:
        """The texture (1, 3, H, W), and how it was made. `share`: of the budget, that is to be spent when it is done."""
        config, size = self.config, max(self.config.size)
        additive = config.statistic != "sliced" and not self.smooth
        with self._variant(wrapped=config.tileable):
            run = multiscale.run_multiscale(
                self.job,
                config,
                self._loop,
                key,
                size=size,
                largest=size,
                aspect=min(config.size) / size,
                tileable=additive,
                ends=config.budget and config.budget * share,
            )
        result = self._cropped(run.pictures, size)
        return scores.cut_where_least_seen(result) if config.tileable else result, run

    def _bleed(self, size: int) -> int:
        return 0 if self.config.tileable else min(self.config.bleed, min(self._shape(size)) // 2)

    def _cropped(self, pictures: Tensor, size: int) -> Tensor:
        height, width = self._shape(size)
        bleed = self._bleed(size)
        return pictures[..., bleed : bleed + height, bleed : bleed + width]

    def _loop(self, plan: ScalePlan, size: int, number: int, before: Tensor | None) -> Loop:
        config, network = self.config, self.network
        update = multiscale.update_of(config, changing=self.rolled, tiled=plan.tile > 0)
        height, width = self._shape(size)
        bleed = self._bleed(size)
        generator = torch.Generator().manual_seed(config.seed + number)
        exemplar = resize(self.exemplar, *self._exemplar_shape(size))
        if before is None:
            start = torch.rand(1, 3, height + 2 * bleed, width + 2 * bleed, generator=generator).to(exemplar)
            start = recolored(start, exemplar)
            start = start.mean(1, keepdim=True).expand_as(start) if self.grey else start
        else:
            inner = self._cropped(before, plan.sizes[number - 1])
            # Rolled between scales, so that no place stays on the same side of the pools' grid.
            around = inner.roll(tuple(torch.randint(0, self.step, (2,), generator=generator).tolist()), (2, 3))
            start = _resized_around(around, height, width) if config.tileable else resize(inner, height, width)
            start = F.pad(start, [bleed] * 4, mode="reflect") if bleed else start
        tile = plan.tile_at(size)
        statistic = multiscale.statistic_of(config, generator, update == "adam")
        layers = list(self.layers)
        with self._variant(wrapped=False):
            tiled = Tiled(network, layers, tile) if tile else None
            own = summarize(network, exemplar, statistic, layers, smooth=self.smooth, tiled=tiled)
        region = Region({layer: statistic.target([own[layer]], [1.0]) for layer in layers})
        return multiscale.loop_for(
            config,
            network,
            StyleLoss(statistic, [region], self.layers, smooth=self.smooth),
            start,
            steps=plan.steps,
            generator=generator,
            update=update,
            tiled=Tiled(network, layers, tile, circular=config.tileable) if tile else None,
            transform=jitter(max(height, width)) if self.rolled else None,
            gradient=_grey if self.grey else None,
            around=config.tileable,
        )


def _resized_around(picture: Tensor, height: int, width: int) -> Tensor:
    """Resampled as if it were surrounded by itself, so that it still wraps."""
    return resize(picture.tile(1, 1, 3, 3), 3 * height, 3 * width)[..., height : 2 * height, width : 2 * width]


def _grey(gradient: Tensor) -> Tensor:
    """The same for all three channels: a grey picture stays grey."""
    return gradient.mean(1, keepdim=True).expand_as(gradient)
