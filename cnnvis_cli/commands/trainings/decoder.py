"""`train kind=decoder`: a network that makes pictures of another's codes, for all depths in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from cnnvis_cli.commands.shared import multiscale
from cnnvis_cli.commands.trainings import common as shared
from cnnvis_cli.commands.trainings.photographs import VIEW, noted, read_photographs
from cnnvis_cli.config.base import NetworkConfig, stem
from cnnvis_cli.config.train import TrainConfig, not_of
from cnnvis_cli.engine.generators.decoder import Decoder, DecoderShape
from cnnvis_cli.engine.learning.decoding import DecodingLoss, calibrate
from cnnvis_cli.engine.learning.loop import Learned, Learner, Learning
from cnnvis_cli.engine.learning.randomness import Shuffled, drawn
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.pixels import eight_bit
from cnnvis_cli.engine.synthesis.inversion import psnr, similarity
from cnnvis_cli.engine.synthesis.style import stride, style_layers
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.corpus import Corpus, listed
from cnnvis_cli.pictures.sheet import sheet

_ROWS = 4
_MEASURED = 8  # pictures that the sizes of codes are measured on


def train_decoder(config: TrainConfig, job: Job) -> None:
    if config.precision == "bf16":
        job.warn("bf16 is not used for decoders: their statistics need float32.")
    training = DecoderTraining(config, job)
    result = shared.learned(job, training.learning(), config.check, training.look)
    decoder = result.module
    assert isinstance(decoder, Decoder)
    state = {key: value.half() for key, value in decoder.state_dict().items()}
    decoder.load_state_dict({key: value.float() for key, value in state.items()})
    scores = training.scores(decoder) | shared.save_ripple(job, decoder, config.upsample)
    training.show(decoder)
    shared.save_weights(job, state, training.card(result, scores))
    shared.save_curve(job, result)
    job.inputs.skipped.update(training.photographs.skipped)
    job.scores.update(scores | {"steps": result.steps, "stopped": result.stopped})
    job.record.shows(layers=training.levels)
    job.record.note(losses=shared.brief(result.trace), back=result.back, held_out=training.photographs.names)


def levels_of(network: Network, asked: Sequence[str], which: slice) -> list[str]:
    """Layers whose codes are taken, shallow to deep: `which` of `style_layers`, or as asked. UserError without maps."""
    try:
        levels = list(asked) or style_layers(network)[which]
    except UserError as error:
        raise UserError(f"{error} Name them: levels=...") from None
    for level in levels:
        multiscale.check_maps(network, level)
    levels.sort(key=lambda level: network.layer(level).order)
    if len(set(levels)) < len(levels):
        raise UserError("levels: one of them is named twice.")
    return levels


def shape_of(network: Network, levels: Sequence[str], rectified: Sequence[bool], config: TrainConfig) -> DecoderShape:
    pitches = [1, *(max(1, stride(network, level)) for level in levels)]
    doublings = []
    for before, after, level in zip(pitches[:-1], pitches[1:], levels, strict=True):
        halved = max(0, round(torch.tensor(after / before).log2().item()))
        if after < before:
            raise UserError(f"levels: the maps of {level} are not smaller than those before it.")
        doublings.append(halved)
    channels = tuple(network.layer(level).channels for level in levels)
    return DecoderShape(channels, tuple(doublings), tuple(rectified), config.upsample, config.skips, config.blocks)


class DecoderTraining:
    """One training from its config to its file."""

    def __init__(self, config: TrainConfig, job: Job) -> None:
        self.config, self.job = config, job
        chosen = NetworkConfig.model_validate({"model": config.model, "weights": config.weights})
        self.encoder = job.inputs.network(chosen)
        self.digest = job.inputs.weights_digest(chosen)
        self.levels = levels_of(self.encoder, config.levels, slice(4))
        self.photographs = read_photographs(config, job, max(config.judged, _ROWS))
        self.views = self.photographs.views.to(job.inputs.device)
        self.styles = Corpus(noted(job, listed(config.styles)), keep=4 * max(config.size)) if config.styles else None
        self.style_order = Shuffled(len(self.styles), config.seed) if self.styles else None
        transfers = 0.0 if config.skips else config.transfers  # with skips there is no code that stands for the picture
        self.loss = DecodingLoss(self.encoder, self.levels, config.seed, config.stagewise, transfers)
        codes = self.loss.codes(self.views[:_MEASURED])
        shape = shape_of(self.encoder, self.levels, [bool((code >= 0).all()) for code in codes], config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            decoder = Decoder(shape)
        calibrate(decoder, codes)
        self.decoder = decoder.to(job.inputs.device).to(memory_format=torch.channels_last)
        self.memory: dict[str, Any] = {"shown": []}

    # A step

    def losses(self, step: int, progress: float) -> dict[str, Tensor]:
        config, device = self.config, self.job.inputs.device
        side = config.size[config.stage(progress)]
        pictures = self.photographs.crops(config, step, side).to(device).contiguous(memory_format=torch.channels_last)
        return self.loss.terms(self.decoder, pictures, self._styles(step, side, pictures), step, progress)

    def _styles(self, step: int, side: int, pictures: Tensor) -> Tensor:
        """Whose statistics the pictures get: crops of the styles and of the other pictures in turn."""
        if self.styles is None or self.style_order is None or step % 2:
            return pictures.roll(1, 0)
        numbers = self.style_order.batch(step // 2, self.config.batch)
        crops, _ = self.styles.crops(numbers, side, drawn(self.config.seed, step, "styles"), zoom=(0.3, 1.0))
        return crops.to(pictures).contiguous(memory_format=torch.channels_last)

    def learning(self) -> Learning:
        config, device = self.config, self.job.inputs.device
        pace = shared.pace(config)
        return Learning(self.decoder, self.losses, config.most_steps, **pace, memory=self.memory, device=device)

    # How it is judged

    @torch.no_grad()
    def inverted(self, decoder: Decoder, views: Tensor) -> list[Tensor]:
        """Each level's pictures as their files would hold them, shallow to deep."""
        made = []
        for level in range(len(self.levels)):
            rows = []
            for view in views.split(1):
                codes = self.loss.codes(view)
                rows.append(decoder(codes[level], level, beside=codes if decoder.shape.skips else None))
            made.append(eight_bit(torch.cat(rows).clamp(0, 1)))
        return made

    def scores(self, decoder: Decoder) -> dict[str, Any]:
        """PSNR and SSIM of held-out pictures by level, and what grey of each picture's mean gets."""
        found: dict[str, Any] = {"held_out_pictures": len(self.views)}
        for level, made in zip(self.levels, self.inverted(decoder, self.views), strict=True):
            pairs = list(zip(made.split(1), self.views.split(1), strict=True))
            found[f"psnr_{level}"] = sum(psnr(a, b) for a, b in pairs) / len(pairs)
            found[f"ssim_{level}"] = sum(similarity(a, b) for a, b in pairs) / len(pairs)
        flat = [psnr(view.mean((2, 3), keepdim=True).expand_as(view), view) for view in self.views.split(1)]
        found["psnr_of_the_mean_color"] = sum(flat) / len(flat)
        return found

    def look(self, learner: Learner) -> None:
        average = learner.average
        assert isinstance(average, Decoder)
        self.show(average)

    def show(self, decoder: Decoder) -> None:
        """NAME.png: a row per held-out picture, the photograph and what is made of each level's code."""
        views = self.views[:_ROWS]
        columns = {"photograph": views, **dict(zip(self.levels, self.inverted(decoder, views), strict=True))}
        tiles = [column[row] for row in range(len(views)) for column in columns.values()]
        self.job.results.save_image(sheet(tiles, list(columns) * len(views), columns=len(columns)).image)

    def card(self, result: Learned, scores: dict[str, Any]) -> dict[str, Any]:
        """What the file says about itself."""
        config = self.config
        left_out = {*not_of("decoder"), "images", "styles", "held_out", "name", "start", "check"}
        return {
            **shared.common_card("decoder", config, left_out, len(self.photographs.corpus), result, scores),
            "shape": asdict(self.decoder.shape),
            "encoder": {"model": config.model, "weights": config.weights and stem(config.weights), "sha256": self.digest},
            "levels": self.levels,
            "size": str(max(config.size)),
            "judged_at": str(VIEW),
            "licence": "MIT",
        }
