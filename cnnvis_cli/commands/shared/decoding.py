"""A decoder at work for `invert` and `maximize`: which one, what natural codes are like, and pictures of given codes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cnnvis_cli.config.base import NetworkConfig
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.decoded import Decoded, NaturalCodes
from cnnvis_cli.engine.synthesis.inversion import layer_code
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.networks.decoders import load_decoder
from cnnvis_cli.networks.learned import check_encoder
from cnnvis_cli.pictures.read import read, sample, to_square

# What natural pictures are like is measured on these.
NATURAL = ("astronaut", "chelsea", "china", "coffee", "flower", "rocket")


def natural_pictures(network: Network, size: int) -> Tensor:
    """(6, 3, size, size) photographs."""
    return torch.cat([to_square(read(sample(name)), size) for name in NATURAL]).to(network.device)


class Decoding:
    """A decoder that fits the config's network."""

    def __init__(self, config: NetworkConfig, name: str, job: Job, network: Network) -> None:
        self.network = network
        self.file = load_decoder(name, config.model, job.inputs.device)
        check_encoder(self.file.name, self.file.card, config.model, job.inputs.weights_digest(config))
        if self.file.network.shape.skips:
            raise UserError(f"{self.file.name} has skips: it makes no picture of a code alone.")
        job.resume.rests_on(f"decoder {self.file.name}", self.file.sha256)
        job.record.note(decoder={"name": self.file.name, "sha256": self.file.sha256})

    @property
    def levels(self) -> tuple[str, ...]:
        return self.file.levels

    @torch.no_grad()
    def pictures(self, layer: str, code: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] of codes (B, C, h, w) of a layer."""
        return self.file.network(code, self.file.level(layer)).clamp(0, 1)

    def fits(self, size: int) -> None:
        """UserError for sides that the decoder would not give back."""
        pitch = 2 ** sum(self.file.network.shape.doublings)
        if size % pitch:
            near = max(pitch, round(size / pitch) * pitch)
            raise UserError(f"{self.file.name} makes pictures with sides that are multiples of {pitch}: size={near}.")

    def parameterization(self, seeds: Sequence[int], size: int, start: Tensor | None = None) -> Decoded:
        """Pictures written down as codes of the deepest level. `start` (B, 3, size, size): whose codes it begins with."""
        self.fits(size)
        level, layer = len(self.levels) - 1, self.levels[-1]
        natural = NaturalCodes.of(layer_code(self.network, layer, natural_pictures(self.network, size)))
        if start is None:
            return Decoded.from_noise(self.file.network, level, natural, seeds, size, size)
        return Decoded(self.file.network, level, natural, layer_code(self.network, layer, start))
