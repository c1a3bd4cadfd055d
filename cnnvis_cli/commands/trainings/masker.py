"""`train kind=masker`: a U-Net that gives an object's mask in one pass, from the network's own answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.commands.trainings import common as shared
from cnnvis_cli.commands.trainings.decoder import levels_of
from cnnvis_cli.commands.trainings.photographs import read_photographs
from cnnvis_cli.config.base import NetworkConfig, stem
from cnnvis_cli.config.train import TrainConfig, not_of
from cnnvis_cli.engine.generators.masker import Masker, MaskerShape
from cnnvis_cli.engine.learning.loop import Learned, Learner, Learning
from cnnvis_cli.engine.learning.masking import MaskingLoss
from cnnvis_cli.engine.learning.randomness import drawn
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.sheet import sheet

_ROWS, _MEASURED = 6, 8


def train_masker(config: TrainConfig, job: Job) -> None:
    if config.precision == "bf16":
        job.warn("bf16 is not used for maskers.")
    training = MaskerTraining(config, job)
    result = shared.learned(job, training.learning(), config.check, training.look)
    masker = result.module
    assert isinstance(masker, Masker)
    state = {key: value.half() for key, value in masker.state_dict().items()}
    masker.load_state_dict({key: value.float() for key, value in state.items()})
    scores = training.scores(masker)
    training.show(masker)
    shared.save_weights(job, state, training.card(result, scores))
    shared.save_curve(job, result)
    job.inputs.skipped.update(training.photographs.skipped)
    job.scores.update(scores | {"steps": result.steps, "stopped": result.stopped})
    job.record.shows(layers=training.levels)
    job.record.note(losses=shared.brief(result.trace), back=result.back, held_out=training.photographs.names)


class MaskerTraining:
    """One training from its config to its file."""

    def __init__(self, config: TrainConfig, job: Job) -> None:
        self.config, self.job = config, job
        chosen = NetworkConfig.model_validate({"model": config.model, "weights": config.weights})
        self.network = job.inputs.network(chosen)
        self.digest = job.inputs.weights_digest(chosen)
        self.levels = levels_of(self.network, config.levels, slice(1, 5))
        self.photographs = read_photographs(config, job, max(config.judged, _ROWS))
        self.views = F.interpolate(self.photographs.views, (self.network.size,) * 2, mode="bilinear", antialias=True)
        self.views = self.views.to(job.inputs.device)
        self.loss = MaskingLoss(self.network, self.levels, config.seed, config.area, config.tv, config.gone)
        codes, logits = self.loss.look(self.views[:_MEASURED])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            masker = Masker(MaskerShape(tuple(code.shape[1] for code in codes), logits.shape[1], config.width))
        for number, code in enumerate(codes):
            masker.scales[number] = code.square().mean().sqrt().clamp_min(1e-12)
        self.masker = masker.to(job.inputs.device).to(memory_format=torch.channels_last)
        self.memory: dict[str, Any] = {}

    def losses(self, step: int, progress: float) -> dict[str, Tensor]:
        side = self.config.size[self.config.stage(progress)]
        pictures = self.photographs.crops(self.config, step, side).to(self.job.inputs.device)
        return self.loss.terms(self.masker, pictures.contiguous(memory_format=torch.channels_last), step, progress)

    def learning(self) -> Learning:
        config, device = self.config, self.job.inputs.device
        pace = shared.pace(config)
        return Learning(self.masker, self.losses, config.most_steps, **pace, memory=self.memory, device=device)

    @torch.no_grad()
    def masks(self, masker: Masker, views: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, H, W) of the classes that the network sees, and these (B,)."""
        codes, logits = self.loss.look(views)
        classes = logits.argmax(1)
        return F.interpolate(masker(codes, classes), views.shape[-2:], mode="bilinear", align_corners=False), classes

    @torch.no_grad()
    def scores(self, masker: Masker) -> dict[str, Any]:
        """On held-out pictures: how much of the class is left within the mask alone, and without it; the same for a centre blob
        of the mask's own area, its rival."""
        masks, classes = self.masks(masker, self.views)
        cover = self.loss.covers(self.views, drawn(self.config.seed, 0, "judged"))

        def probability(where: Tensor) -> float:
            seen = self.network(self.views * where + cover * (1 - where)).softmax(1)
            return seen.gather(1, classes[:, None]).mean().item()

        side = self.views.shape[-1]
        axis = torch.linspace(-1, 1, side, device=masks.device).square()
        far = (axis[:, None] + axis[None]).expand_as(masks)
        order = far.flatten(1).argsort(1).argsort(1).view_as(masks) / side**2
        blob = (order < masks.mean((1, 2, 3), keepdim=True)).float()
        others = (classes + 1 + torch.arange(len(classes), device=classes.device)) % self.masker.shape.classes
        wrong = masker(self.loss.look(self.views)[0], others)
        return {
            "held_out_pictures": len(self.views),
            "area": masks.mean().item(),
            "area_for_another_class": wrong.mean().item(),
            "probability": probability(torch.ones_like(masks)),
            "probability_within": probability(masks),
            "probability_within_blob": probability(blob),
            "probability_without": probability(1 - masks),
            "probability_without_blob": probability(1 - blob),
        }

    def look(self, learner: Learner) -> None:
        average = learner.average
        assert isinstance(average, Masker)
        self.show(average)

    def show(self, masker: Masker) -> None:
        """NAME.png: photographs, their masks, and what lies under them."""
        views = self.views[:_ROWS]
        masks, classes = self.masks(masker, views)
        tiles: list[Tensor] = []
        captions = []
        for view, mask, index in zip(views, masks, classes.tolist(), strict=True):
            tiles += [view, mask.expand(3, -1, -1), view * mask + 0.9 * (1 - mask)]
            captions += [self.network.class_name(index), "mask", "what it keeps"]
        self.job.results.save_image(sheet(tiles, captions, columns=6).image)

    def card(self, result: Learned, scores: dict[str, Any]) -> dict[str, Any]:
        """What the file says about itself."""
        config = self.config
        left_out = {*not_of("masker"), "images", "held_out", "name", "start", "check"}
        return {
            **shared.common_card("masker", config, left_out, len(self.photographs.corpus), result, scores),
            "shape": asdict(self.masker.shape),
            "encoder": {"model": config.model, "weights": config.weights and stem(config.weights), "sha256": self.digest},
            "levels": self.levels,
            "size": str(max(config.size)),
            "licence": "MIT",
        }
