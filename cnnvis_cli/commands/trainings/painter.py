"""`train kind=painter`: a stylizer that learns an artist from a critic instead of statistics (Sanakoyeu et al. 2018)."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn

from cnnvis_cli.commands.trainings import common as shared
from cnnvis_cli.commands.trainings.stylizer import StylizerTraining
from cnnvis_cli.config.base import collection_name
from cnnvis_cli.config.train import TrainConfig
from cnnvis_cli.engine.generators.critic import FeatureCritic, PixelCritic
from cnnvis_cli.engine.generators.stylizer import Stylizer
from cnnvis_cli.engine.learning.loop import Learning
from cnnvis_cli.engine.learning.painter import PainterLoss
from cnnvis_cli.engine.learning.randomness import drawn
from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.corpus import Corpus, listed

_PLANNED_BY = 10  # steps
_MOMENTUM = 0.5  # the usual one of two sides that learn against each other (Radford et al. 2016)


class PainterTraining(StylizerTraining):
    """One training from its config to its file, which is a stylizer's."""

    def __init__(self, config: TrainConfig, job: Job) -> None:
        super().__init__(config, job)
        self.paintings = Corpus(self.sources, keep=round(config.style_scale * max(config.size)))
        critic = self._critic().to(job.inputs.device)
        self.both = nn.ModuleDict({"painter": self.stylizer, "critic": critic})
        kept = {"style-aware": None, "perceptual": self._perceptual, "pixels": nn.functional.mse_loss}[config.content_loss]
        weights = (config.adversarial, config.content, config.transformed, config.even)
        number = self.learning_styles[0]
        self.asked = PainterLoss(self.stylizer, critic, self.seen, self.memory, *weights, style=number, kept=kept)

    def _given(self) -> list[tuple[str, Tensor, str]]:
        """The artist: named after the collection, shown and scored by the first painting that can be used."""
        sources, self.sources = listed(self.config.paintings), []
        first: tuple[Tensor, str] | None = None
        for source in sources:
            try:
                found = self._style(source)
            except UserError as error:
                if len(sources) == 1:
                    raise
                self.job.inputs.skipped[str(source.path)] = str(error)
                continue
            first = first or found
            self.sources.append(source)
        if first is None:
            raise self.job.inputs.unreadable(sources)
        self._artist = collection_name(self.config.paintings), first[1]
        return [(self._artist[0], *first)]

    @property
    def learning_styles(self) -> list[int]:
        """The artist alone, also in a file that knows others."""
        return [number for number, style in enumerate(self.styles) if (style.name, style.sha256) == self._artist]

    def _critic(self) -> nn.Module:
        """With weights that follow from the seed."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(self.config.seed + 1)
            if self.config.critic == "pixels":
                return PixelCritic()
            return FeatureCritic([maps.shape[1] for maps in self._maps(self._painting()).values()])

    def _painting(self) -> Tensor:
        """The first of the paintings (1, 3, H, W), at the size that patches are taken from."""
        return (self.paintings.picture(0)[1][None].float() / 255).to(self.job.inputs.device)

    def _maps(self, pictures: Tensor) -> dict[str, Tensor]:
        found = activations(self.encoder, pictures, self.layers)
        return {layer: found[layer] for layer in self.layers}

    @cached_property
    def units(self) -> dict[str, float]:
        """The size of each layer's maps: their root mean square on the painting. To be asked for within `variant`."""
        with torch.no_grad():
            return {layer: maps.square().mean().sqrt().item() for layer, maps in self._maps(self._painting()).items()}

    def seen(self, pictures: Tensor) -> list[Tensor]:
        """What the critic is shown of pictures (B, 3, H, W): themselves, or the maps of the style layers."""
        if self.config.critic == "pixels":
            return [pictures]
        return [maps / max(self.units[layer], 1e-6) for layer, maps in self._maps(pictures).items()]

    def _perceptual(self, made: Tensor, photographs: Tensor) -> Tensor:
        """The fixed content loss of `style`, for comparison."""
        terms = self.loss.terms(made, photographs, [0] * len(made))
        return terms["content"].mean() / max(1e-9, 1 - self.loss.strength)

    def losses(self, step: int, progress: float) -> dict[str, Tensor]:
        config, device = self.config, self.job.inputs.device
        side = config.size[config.stage(progress)]
        pictures = self.photographs.crops(config, step, side).to(device)
        # With a budget the first steps are whole ones: by them it is turned into a number of steps.
        planned = config.budget is None or step > _PLANNED_BY
        if progress < config.autoencoder and planned:
            return self.asked.warm(pictures)
        generator = drawn(config.seed, step, "paintings")
        numbers = torch.randint(0, len(self.paintings), (config.batch,), generator=generator).tolist()
        share = min(1.0, 1 / config.style_scale)
        patches = self.paintings.crops(numbers, side, generator, zoom=(share, min(1.0, 2 * share)))[0].to(device)
        return self.asked.terms(pictures, patches, drawn(config.seed, step, "critic"))

    def learning(self) -> Learning:
        pace, device = shared.pace(self.config), self.job.inputs.device
        return Learning(
            self.both, self.losses, self.config.most_steps, **pace, momentum=_MOMENTUM, memory=self.memory, device=device
        )

    def stylizer_of(self, module: nn.Module) -> Stylizer:
        assert isinstance(module, nn.ModuleDict)
        return super().stylizer_of(module["painter"])
