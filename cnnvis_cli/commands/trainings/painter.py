"""`train kind=painter`: a stylizer that learns an artist from a critic instead of statistics (Sanakoyeu et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnvis_cli.commands.trainings import common as shared
from cnnvis_cli.commands.trainings.stylizer import StylizerTraining
from cnnvis_cli.config.base import collection_name
from cnnvis_cli.config.train import TrainConfig
from cnnvis_cli.engine.generators.critic import Critic
from cnnvis_cli.engine.generators.stylizer import Stylizer
from cnnvis_cli.engine.learning.loop import Learning
from cnnvis_cli.engine.learning.painter import PainterLoss
from cnnvis_cli.engine.learning.randomness import drawn
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.networks.stylizers import PaintedStyle
from cnnvis_cli.pictures.corpus import Corpus, listed


class PainterTraining(StylizerTraining):
    """One training from its config to its file, which is a stylizer's."""

    def __init__(self, config: TrainConfig, job: Job) -> None:
        sources = listed(config.paintings)
        super().__init__(config.model_copy(update={"style": (str(sources[0].path),)}), job)
        self.config = config
        first = self.styles[-1]
        self.styles = (*self.styles[:-1], PaintedStyle(collection_name(config.paintings), first.sha256, first.thumbnail))
        self.paintings = Corpus(sources, keep=round(config.style_scale * max(config.size)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed + 1)
            critic = Critic().to(job.inputs.device)
        self.both = nn.ModuleDict({"painter": self.stylizer, "critic": critic})
        kept = {"style-aware": None, "perceptual": self._perceptual, "pixels": nn.functional.mse_loss}[config.content_loss]
        weights = (config.adversarial, config.content, config.transformed)
        self.asked = PainterLoss(self.stylizer, critic, self.memory, *weights, kept=kept)

    def _perceptual(self, made: Tensor, photographs: Tensor) -> Tensor:
        """The fixed content loss of `style`, for comparison."""
        terms = self.loss.terms(made, photographs, [0] * len(made))
        return terms["content"].mean() / max(1e-9, 1 - self.loss.strength)

    def losses(self, step: int, progress: float) -> dict[str, Tensor]:
        config, device = self.config, self.job.inputs.device
        side = config.size[config.stage(progress)]
        pictures = self.photographs.crops(config, step, side).to(device)
        if progress < config.autoencoder:
            return self.asked.warm(pictures)
        generator = drawn(config.seed, step, "paintings")
        numbers = torch.randint(0, len(self.paintings), (config.batch,), generator=generator).tolist()
        share = min(1.0, 1 / config.style_scale)
        patches = self.paintings.crops(numbers, side, generator, zoom=(share, min(1.0, 2 * share)))[0].to(device)
        return self.asked.terms(pictures, patches)

    def learning(self) -> Learning:
        pace, device = shared.pace(self.config), self.job.inputs.device
        return Learning(self.both, self.losses, self.config.most_steps, **pace, memory=self.memory, device=device)

    def stylizer_of(self, module: nn.Module) -> Stylizer:
        assert isinstance(module, nn.ModuleDict)
        return super().stylizer_of(module["painter"])
