"""A masker at work for `saliency`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.commands.shared.second_opinion import single_class
from cnnvis_cli.config.base import NetworkConfig
from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.objectives import Objective
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.networks.decoders import load_masker
from cnnvis_cli.networks.learned import check_encoder


class Masking:
    """A masker that fits the config's network."""

    def __init__(self, config: NetworkConfig, name: str, job: Job) -> None:
        self.file = load_masker(name, config.model, job.inputs.device)
        check_encoder(self.file.name, self.file.card, config.model, job.inputs.weights_digest(config))
        job.resume.rests_on(f"masker {self.file.name}", self.file.sha256)
        job.record.note(masker={"name": self.file.name, "sha256": self.file.sha256})

    @torch.no_grad()
    def mask(self, network: Network, image: Tensor, target: Objective) -> Tensor:
        """(h, w) in [0, 1] for a picture (1, 3, h, w) and a class."""
        if (index := single_class(target)) is None:
            raise UserError("method=masker answers for a class: target=predicted, or the name of one.")
        found = activations(network, image, self.file.levels)
        classes = torch.tensor([index], device=image.device)
        small = self.file.network([found[level] for level in self.file.levels], classes)
        return F.interpolate(small, image.shape[-2:], mode="bilinear", align_corners=False)[0, 0]
