"""`cnnvis maximize`: the picture that an objective likes best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnvis_cli.commands.shared.asked import objectives_of
from cnnvis_cli.commands.shared.canvas import Importance, both, faded, spectrum_of
from cnnvis_cli.commands.shared.decoding import Decoding
from cnnvis_cli.commands.shared.described import describe
from cnnvis_cli.commands.shared.second_opinion import best_sample, class_score, opinion, second_network, single_class
from cnnvis_cli.commands.units.facets import Face, face_sheet, faces_of, gram_layer, note_facets
from cnnvis_cli.commands.units.page import UnitSheet, unit_sheet
from cnnvis_cli.config.maximize import MaximizeConfig
from cnnvis_cli.engine.network.modifications import padded
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim import objectives, regularizers
from cnnvis_cli.engine.optim.crops import Crops
from cnnvis_cli.engine.optim.evaluate import score, value_gradient
from cnnvis_cli.engine.optim.loop import Loop, Outcome
from cnnvis_cli.engine.optim.objectives import Objective
from cnnvis_cli.engine.optim.parameterizations import Fourier, Parameterization, Phases, Pixels, noise
from cnnvis_cli.engine.optim.rectifiers import FIRST_STEPS
from cnnvis_cli.engine.optim.transforms import affine
from cnnvis_cli.engine.pixels import eight_bit, to_bytes
from cnnvis_cli.errors import SizeError, UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.read import to_square
from cnnvis_cli.pictures.sheet import Sheet, sheet
from cnnvis_cli.pictures.write import to_image

# Seeds, and pictures to start from (B, 3, size, size) if any.
Prior = Callable[[Sequence[int], Tensor | None], Parameterization]
# Side in pixels of a picture alone and of a tile among others: smaller ones are enlarged, so that words under them can be read.
_LEAST, _LEAST_TILE = 96, 192
# A canvas is scored by so many crops of the saved file.
SCORED_CROPS = 16


@dataclass(frozen=True)
class Wanted:
    """One picture of the sheet: what is asked of it, and where it starts."""

    objective: Objective
    seed: int
    start: Tensor | None
    caption: str
    face: Face | None = None

    @property
    def asked(self) -> Objective:
        """The objective, with the pull of the facet if it is of one."""
        return self.objective if self.face is None else self.objective + self.face.facet.pull()


def run(config: MaximizeConfig, job: Job) -> None:
    network = job.inputs.network(config)
    wanted = objectives_of(config, network)
    size = config.size or _default_size(config, network)
    prior = _prior(config, job, network, size)
    units = _wanted(config, job, network, wanted, size)
    # Different pictures of one objective are compared with each other, so they share a batch of their own.
    per_batch = config.diversity if config.diversity > 1 else config.batch
    outcomes, starts, made = [], [], []
    for first in range(0, len(units), per_batch):
        batch = units[first : first + per_batch]
        key = f"{first + len(batch)}/{len(units)}"
        loop = _loop(config, network, batch, size, prior)
        importance = Importance(job, key, len(batch), size) if config.fade else None
        loop.gradient = both(importance.note if importance else None, loop.gradient)
        starts.append(_score(config, network, batch, loop.image().detach()))
        with padded(network, config.padding):
            take = _frame_taker(config, job) if config.frames and first == 0 else None
            outcomes.append(job.loops.run(loop, key, on_step=take))
        found = outcomes[-1].pictures
        made.append(found if importance is None else faded(found, importance.sums))
    _save(config, job, network, units, outcomes, torch.cat(made), torch.cat(starts))
    if config.frames:
        job.results.save_gif([to_image(frame / 255) for frame in job.resume.get("frames", [])])


def _default_size(config: MaximizeConfig, network: Network) -> int:
    if config.crops:
        return max(min(320, 5 * network.size), 3 * network.size // 2)  # much larger, and no crop would hear the finest waves
    return network.size if network.size >= 128 or not network.sizes.takes(128, 128) else 128


def _wanted(config: MaximizeConfig, job: Job, network: Network, wanted: Sequence[Objective], size: int) -> list[Wanted]:
    if config.start == "facets":
        return [
            Wanted(objective, config.seed, to_square(face.facet.mean[None], size), f"{objective.label}\nfacet {number}", face)
            for objective in wanted
            for number, face in enumerate(faces_of(job, network, objective, config.pictures, config.facets, config.seed))
        ]
    start = _start(config, job, network, size)
    return [
        Wanted(objective, config.seed + number, start, objective.label + (f" ({number})" if config.diversity > 1 else ""))
        for objective in wanted
        for number in range(config.diversity)
    ]


def _start(config: MaximizeConfig, job: Job, network: Network, size: int) -> Tensor | None:
    """(1, 3, size, size), or None for noise."""
    if config.start == "noise":
        return None
    if config.start in ("grey", "zero"):
        color = network.mean_color if config.start == "zero" else torch.full((3,), regularizers.GREY)
        return color.view(1, 3, 1, 1).expand(1, 3, size, size).to(job.inputs.device)
    return to_square(job.inputs.read_one(config.start), size)


def _prior(config: MaximizeConfig, job: Job, network: Network, size: int) -> Prior | None:
    """From seeds to pictures that are written down by what natural pictures are like; None for pixels and Fourier."""
    if config.parameterization == "phases":
        spectrum = spectrum_of(job, config.pictures, size)
        return lambda seeds, start: Phases.from_noise(seeds, size, size, spectrum)
    if config.parameterization == "decoder":
        decoding = Decoding(config, config.decoder, job, network)
        return lambda seeds, start: decoding.parameterization(seeds, size, start)
    return None


def _image(
    config: MaximizeConfig, batch: Sequence[Wanted], size: int, device: torch.device, prior: Prior | None
) -> Parameterization:
    seeds = [unit.seed for unit in batch]
    if prior is not None:
        starts = [unit.start for unit in batch if unit.start is not None]
        return prior(seeds, torch.cat(starts) if starts else None)
    if batch[0].start is None and config.parameterization == "fourier":
        return Fourier.from_noise(seeds, size, size, std=config.noise, device=device)
    wiggle = config.noise * noise(seeds, 3, size, size).to(device)
    grey = torch.full_like(wiggle[:1], regularizers.GREY)
    start = torch.cat([grey if unit.start is None else unit.start for unit in batch])
    if config.diversity > 1 or batch[0].start is None:
        start = (start + wiggle).clamp(0, 1)
    return Fourier.from_pictures(start) if config.parameterization == "fourier" else Pixels(start)


def _regularized(config: MaximizeConfig, objective: Objective) -> Objective:
    for weight, prior in (
        (config.l2, objectives.norm(2.0)),
        (config.lp, objectives.norm(config.p)),
        (config.tv, objectives.total_variation(config.tv_beta)),
    ):
        if weight:
            objective = objective - weight * prior
    return objective


def _together(batch: Sequence[Wanted]) -> Objective:
    """One objective for the batch, each picture with its own."""
    same = all(unit.objective is batch[0].objective and unit.face is None for unit in batch)
    return batch[0].objective if same else objectives.each([unit.asked for unit in batch])


def _loop(config: MaximizeConfig, network: Network, batch: Sequence[Wanted], size: int, prior: Prior | None) -> Loop:
    objective = _regularized(config, _together(batch))
    if config.diversity > 1:
        layer = gram_layer(network, batch[0].objective, config.diversity_layer)
        objective = objective + config.diversity_weight * objectives.diversity(layer)
    generator = torch.Generator().manual_seed(config.seed)
    moves = config.jitter or config.rotate or config.zoom
    wrap = config.padding == "circular"
    transform = affine(shift=config.jitter, degrees=config.rotate, zoom=config.zoom, wrap=wrap) if moves else None
    shown = (config.crops, network.size, config.crop_share, config.crop_spread, config.crop_noise)
    crops = Crops(*shown) if config.crops else None
    after = []
    if config.blur_every:
        after.append(regularizers.blur_every(config.blur_every, config.blur_sigma))
    if config.clip_pixels:
        after.append(regularizers.clip_small(config.clip_pixels, by_contribution=False))
    if config.clip_gradients:
        after.append(regularizers.clip_small(config.clip_gradients, by_contribution=True))
    return Loop(
        image=_image(config, batch, size, network.device, prior),
        evaluate=value_gradient(network, objective, transform=transform, crops=crops, generator=generator),
        steps=config.steps,
        update=config.update,
        rate=config.first_rate,
        generator=generator,
        gradient=regularizers.center_bias(size, size, config.center_bias) if config.center_bias else None,
        after_step=after,
        target=config.target,
        patience=config.patience,
        passing=FIRST_STEPS,
    )


def _frame_taker(config: MaximizeConfig, job: Job) -> Any:
    """Keeps every `every`-th picture of the first batch for the GIF, also over an interruption."""
    frames = job.resume.get("frames") or job.resume.keep("frames", [])

    def take(step: int, values: Tensor, seen: Tensor) -> None:
        if (step - 1) % config.every == 0:
            row = to_bytes(torch.cat(list(seen), dim=2)).cpu()
            frames.append(row)

    return take


def _views(config: MaximizeConfig, network: Network, picture: Tensor) -> Tensor:
    """What a network is shown of a picture (1, 3, H, W) to score it: the picture, or the same crops of any canvas."""
    if not config.crops:
        return picture
    crops = Crops(SCORED_CROPS, network.size, config.crop_share, config.crop_spread, noise=0.0)
    return crops(picture, torch.Generator().manual_seed(0))


def _score(config: MaximizeConfig, network: Network, batch: Sequence[Wanted], pictures: Tensor) -> Tensor:
    """The objectives (B,) of pictures as they are; a size the network cannot take is told here, before any work."""
    values = []
    try:
        for unit, picture in zip(batch, pictures.split(1), strict=True):
            views = _views(config, network, picture)
            values.append(score(network, unit.objective, views).mean().cpu())
    except SizeError as error:
        raise UserError(f"{error} Try size={network.size}.") from None
    return torch.stack(values)


def _warn_of_silence(job: Job, units: Sequence[Wanted], outcomes: Sequence[Outcome]) -> list[bool]:
    """Which units were never active: one that a rectifier silences at the start and through all steps has no picture."""
    highest = torch.cat([torch.stack(outcome.trace).abs().amax(0) for outcome in outcomes if outcome.trace])
    silent = [value == 0 for value in highest.tolist()]
    names = [unit.caption for unit, still in zip(units, silent, strict=False) if still]
    if names:
        job.warn(f"{', '.join(names)}: never active, so its picture says nothing. Name the layer before, or another start.")
    return [*silent, *[False] * (len(units) - len(silent))]


def _save(
    config: MaximizeConfig,
    job: Job,
    network: Network,
    units: Sequence[Wanted],
    outcomes: Sequence[Outcome],
    pictures: Tensor,
    starts: Tensor,
) -> None:
    silent = _warn_of_silence(job, units, outcomes)
    asked = [network.class_name(index) for unit in units if (index := single_class(unit.objective)) is not None]
    second = second_network(config, config.seen_by, job, asked) if asked else None
    if second is not None and config.seen_by == "auto":
        job.results.tell(f"seen by {second.name}")

    def seen(unit: Wanted, picture: Tensor) -> dict[str, Any]:
        index = single_class(unit.objective)
        if second is None or index is None:
            return {}
        return opinion(second, _views(config, second, picture), network.class_name(index))

    # The rival of a picture that began as another: what the second network sees in that one.
    began = [seen(unit, unit.start) if unit.start is not None and (config.from_picture or unit.face) else {} for unit in units]
    captions = [
        _caption(unit, still, seen(unit, eight_bit(picture)), before, alone=len(units) == 1)
        for unit, still, picture, before in zip(units, silent, pictures.split(1), began, strict=True)
    ]
    saved = _saved(config, job, network, units, pictures, captions)
    if len(units) > 1 and (units[0].face or config.diversity > 1):
        found = [unit.objective for unit in units]
        note_facets(job, network, found, saved, [unit.face for unit in units], config.diversity_layer)
    rows = []
    for unit, picture, start, before in zip(units, saved, starts.tolist(), began, strict=True):
        views = _views(config, network, picture)
        value = score(network, unit.objective, views).mean().item()
        row = {"objective": unit.objective.label, "value": value, "start": start}
        row |= class_score(network, unit.objective, views) | seen(unit, picture)
        rows.append(row | {f"start_{key}": said for key, said in before.items() if key != "seen_by"})
    job.scores.update(
        rows[0] if len(rows) == 1 else {"mean_value": float(np.mean([row["value"] for row in rows])), "pictures": rows}
    )
    if (best := best_sample(network, units[0].objective)) is not None:
        job.scores["best_sample"] = best
    job.record.trace = [outcome.means for outcome in outcomes] if len(outcomes) > 1 else outcomes[0].means
    job.record.stopped = [outcome.stopped for outcome in outcomes]
    job.record.note(steps=[outcome.steps for outcome in outcomes])
    describe(job.record, [unit.objective for unit in units])


def _page(
    config: MaximizeConfig, job: Job, network: Network, units: Sequence[Wanted], shown: Tensor, captions: Sequence[str]
) -> Sheet:
    faces = [unit.face for unit in units if unit.face is not None]
    if config.show == "unit":
        return unit_sheet(job, network, [unit.objective for unit in units], shown, captions, config.pictures)
    if faces:
        return face_sheet(list(shown), captions, faces)
    return sheet(list(shown), captions, columns=config.columns)


def _caption(unit: Wanted, still: bool, opinion: dict[str, Any], before: dict[str, Any], *, alone: bool) -> str:
    """What a tile is asked for (alone, the line under the figure says it), and what a second network sees in it, and saw
    `before`."""
    lines = [] if alone else [unit.caption]
    if still:
        lines.append("(never active)")
    if opinion.get("seen_probability") is not None:
        seen, share = opinion["seen_as"].partition(",")[0], f"{opinion['seen_probability']:.0%}"
        lines += [f"seen as {seen} {share}"] if opinion["seen_rank"] == 1 else [f"seen as {seen}", f"(asked for: {share})"]
    if before.get("seen_probability") is not None:
        lines.append(f"(its start: {before['seen_probability']:.0%})")
    return "\n".join(lines)


def _saved(
    config: MaximizeConfig, job: Job, network: Network, units: Sequence[Wanted], pictures: Tensor, captions: Sequence[str]
) -> list[Tensor]:
    """The pictures (1, 3, H, W) as they were saved, on a sheet; one alone without a line under it."""
    if len(pictures) == 1 and not config.titles:
        return [job.results.save_picture(pictures[0])]
    least = _LEAST if len(pictures) == 1 else _LEAST_TILE
    zoom = -(-least // pictures.shape[-1])  # by whole pixels, so that what was saved can be judged
    shown = pictures.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    page = _page(config, job, network, units, shown, captions)
    reloaded = job.results.save_image(page.image)
    if isinstance(page, UnitSheet):
        page.save_table(job)
    job.record.tiles = [list(box) for box in page.boxes]
    return [page.tile(reloaded, number)[..., ::zoom, ::zoom] for number in range(len(pictures))]
