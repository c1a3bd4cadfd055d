"""The direct encoding: every pixel is a gene. Simulated binary crossover and polynomial mutation, as in Nguyen et al. 2015."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.evolution.encoding import Genome, Images, hsv_to_rgb, polynomial_steps, to_uint8


class Direct:
    """Genomes (size, size, 1) grey or (size, size, 3) hue, saturation, value; uint8, first drawn uniformly.

    Every gene mutates with chance `rate`, halved every `halve_every` generations, by a polynomial step of strength `eta_m`
    (the paper: 15; with 2, larger steps, lenet is fooled within 50 generations, with 15 it is not).
    A pair of parents crosses with chance `cross_rate`; then every gene crosses with chance 1/2 (SBX of strength `eta_c`,
    Deb and Agrawal 1995). Genes in which the parents are equal pass unchanged. (In the paper's own code they turn grey.)
    """

    resizable = False

    def __init__(
        self,
        size: int,
        *,
        grayscale: bool = False,
        rate: float = 0.1,
        halve_every: int = 1000,
        eta_m: float = 2.0,
        cross_rate: float = 0.5,
        eta_c: float = 10.0,
    ) -> None:
        self.size, self.channels = size, 1 if grayscale else 3
        self.rate, self.halve_every, self.eta_m = rate, halve_every, eta_m
        self.cross_rate, self.eta_c = cross_rate, eta_c

    def random(self, count: int, rng: np.random.Generator) -> list[Genome]:
        return [rng.integers(0, 256, (self.size, self.size, self.channels), np.uint8) for _ in range(count)]

    def vary(self, pairs: Sequence[tuple[Genome, Genome]], generation: int, rng: np.random.Generator) -> list[Genome]:
        rate = self.rate * 0.5 ** (generation // self.halve_every)
        children = []
        for child, other in pairs:
            if rng.random() < self.cross_rate:
                child = self._cross(child, other, rng)
            children.append(self._mutate(child, rate, rng))
        return children

    @cached_property
    def _shares(self) -> np.ndarray:
        """How far a gene moves towards the other parent's, for 65,536 equally likely draws: one look-up per gene, not a power.

        With the spread factor b of SBX the child is p1 + s (p2 - p1), s = (1 - b) / 2; its sibling, p2 - s (p2 - p1), is not
        made. The upper half of the table is 0, for the genes that do not cross.
        """
        draw = (np.arange(32768) + 0.5) / 32768
        power = 1 / (self.eta_c + 1)
        spread = np.where(draw <= 0.5, (2 * draw) ** power, (1 / (2 * (1 - draw))) ** power)
        return np.concatenate([(1 - spread) / 2, np.zeros(32768)]).astype(np.float32)

    def _cross(self, first: Genome, second: Genome, rng: np.random.Generator) -> Genome:
        p1, p2 = first.astype(np.float32), second.astype(np.float32)
        move = self._shares[rng.integers(0, 65536, first.shape, np.uint16)]
        move *= p2 - p1
        return _round(p1 + move)

    def _mutate(self, genome: Genome, rate: float, rng: np.random.Generator) -> Genome:
        count = int(rng.binomial(genome.size, rate))
        chosen = rng.integers(0, genome.size, count)  # a gene drawn twice mutates once
        genome = genome.copy()
        genes = genome.reshape(-1)
        genes[chosen] = _round(genes[chosen] + 255 * polynomial_steps(count, self.eta_m, rng))
        return genome

    def render(self, genomes: Sequence[Genome], size: int | None = None) -> Images:
        if size not in (None, self.size):
            raise UserError(
                f"a directly encoded image has {self.size} px and no others; `cppn` and `shapes` render at any size."
            )
        if self.channels == 1:
            return np.repeat(np.stack(genomes), 3, axis=-1)
        images = np.empty((len(genomes), self.size, self.size, 3), np.uint8)
        for image, genome in zip(images, genomes, strict=True):
            hue, saturation, value = torch.from_numpy(genome).permute(2, 0, 1).float().div_(255).unbind()
            for channel, colour in enumerate(hsv_to_rgb(hue, saturation, value)):
                image[..., channel] = to_uint8(colour)
        return images


def _round(values: np.ndarray) -> Genome:
    return np.rint(values).clip(0, 255).astype(np.uint8)
