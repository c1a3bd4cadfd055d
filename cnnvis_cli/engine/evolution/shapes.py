"""Parametric geometric shapes: an image is a list of coloured, translucent triangles or ellipses on grey."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.evolution.encoding import Genome, Images, mutate_uniformly, to_uint8

KINDS = ("triangles", "ellipses")
GEOMETRY, COLOUR = slice(0, 6), slice(6, 9)
ALPHA = 9
_CHUNK_VALUES = 2_000_000  # pixels x channels in work at a time: what a second-level cache holds


class Shapes:
    """Genomes (shapes, 10) float32 in [0, 1], painted first to last: six of geometry, red, green, blue, opacity.

    Geometry of a triangle: three corners x, y. Of an ellipse: centre x, y, radii (of half the side), angle (of half a turn).
    A child is its first parent with, by chance `cross_rate`, the tail of the second one's list; it may gain a shape (up to
    `most`), lose one or exchange two; every number mutates with chance `rate` by a polynomial step of strength `eta_m`.
    """

    resizable = True

    def __init__(
        self,
        size: int,
        *,
        grayscale: bool = False,
        kind: str = "triangles",
        count: int = 10,
        most: int = 50,
        rate: float = 0.1,
        eta_m: float = 10.0,
        cross_rate: float = 0.2,
        device: torch.device | str = "cpu",
    ) -> None:
        if kind not in KINDS:
            raise UserError(f"shapes are {' or '.join(KINDS)}, not '{kind}'.")
        self.size, self.grayscale, self.kind, self.device = size, grayscale, kind, device
        self.count, self.most, self.rate, self.eta_m, self.cross_rate = count, most, rate, eta_m, cross_rate

    def random(self, count: int, rng: np.random.Generator) -> list[Genome]:
        return [rng.random((self.count, 10), dtype=np.float32) for _ in range(count)]

    def vary(self, pairs: Sequence[tuple[Genome, Genome]], generation: int, rng: np.random.Generator) -> list[Genome]:
        children = []
        for child, other in pairs:
            if rng.random() < self.cross_rate:
                cut = int(rng.integers(1, min(len(child), len(other)) + 1))
                child = np.concatenate([child[:cut], other[cut:]])[: self.most]
            children.append(self._mutate(child, rng))
        return children

    def _mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        gain, lose, swap = rng.random(3) < (0.2, 0.1, 0.1)
        if gain and len(genome) < self.most:
            genome = np.insert(genome, rng.integers(len(genome) + 1), rng.random(10, dtype=np.float32), 0)
        if lose and len(genome) > 1:
            genome = np.delete(genome, rng.integers(len(genome)), 0)
        if swap:
            order = np.arange(len(genome))
            i, j = rng.integers(len(genome), size=2)
            order[[i, j]] = order[[j, i]]
            genome = genome[order]
        return mutate_uniformly(genome, self.rate, self.eta_m, 0.0, 1.0, rng)

    @torch.no_grad()
    def render(self, genomes: Sequence[Genome], size: int | None = None) -> Images:
        size = size or self.size
        images = np.empty((len(genomes), size, size, 3), np.uint8)
        chunk = max(1, _CHUNK_VALUES // (3 * size * size))
        for start in range(0, len(genomes), chunk):
            part = genomes[start : start + chunk]
            padded = np.zeros((len(part), max(map(len, part)), 10), np.float32)  # opacity 0 paints nothing
            for row, genome in zip(padded, part, strict=True):
                row[: len(genome)] = genome
            images[start : start + chunk] = self._paint(torch.from_numpy(padded).to(self.device), size)
        return images

    def _paint(self, shapes: Tensor, size: int) -> np.ndarray:
        """(N, size, size, 3) uint8 of shapes (N, S, 10). Edges are soft over one pixel."""
        line = ((torch.arange(size, device=shapes.device) + 0.5) / size).view(1, -1)
        cover = _triangle if self.kind == "triangles" else _ellipse
        channels = 1 if self.grayscale else 3
        canvas = shapes.new_full((len(shapes), channels, size, size), 0.5)
        for shape in shapes.unbind(1):
            alpha = cover(shape[:, GEOMETRY], line, size).mul_(shape[:, ALPHA].view(-1, 1, 1)).unsqueeze_(1)
            colour = shape[:, COLOUR][:, :channels].view(-1, channels, 1, 1)
            canvas.lerp_(colour.expand_as(canvas), alpha)
        return to_uint8(canvas.permute(0, 2, 3, 1).expand(-1, -1, -1, 3))


def _triangle(corners: Tensor, line: Tensor, size: int) -> Tensor:
    """(N, size, size) cover in [0, 1] of triangles (N, 6): the least signed distance to the three edges, in pixels."""
    x, y = corners[:, 0::2], corners[:, 1::2]
    turn = torch.sign((x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0]))
    nearest: Tensor | None = None
    for i in range(3):
        j = (i + 1) % 3
        dx, dy = x[:, j] - x[:, i], y[:, j] - y[:, i]
        scale = turn * size / torch.hypot(dx, dy).clamp_min(1e-6)
        across = (-dy * scale).view(-1, 1) * (line - x[:, i].view(-1, 1))
        down = (dx * scale).view(-1, 1) * (line - y[:, i].view(-1, 1))
        distance = across.unsqueeze(1) + down.unsqueeze(2)
        nearest = distance if nearest is None else torch.minimum(nearest, distance, out=nearest)
    assert nearest is not None
    return nearest.add_(0.5).clamp_(0, 1)


def _ellipse(shape: Tensor, line: Tensor, size: int) -> Tensor:
    """(N, size, size) cover in [0, 1] of ellipses (N, 6)."""
    x, y, *_ = (column.view(-1, 1) for column in shape.unbind(1))
    across, down = (shape[:, i].view(-1, 1).clamp_min(1 / size) * 0.5 for i in (2, 3))
    angle = shape[:, 4].view(-1, 1) * torch.pi
    u = (angle.cos() * (line - x) / across).unsqueeze(1) + (angle.sin() * (line - y) / across).unsqueeze(2)
    v = (-angle.sin() * (line - x) / down).unsqueeze(1) + (angle.cos() * (line - y) / down).unsqueeze(2)
    radius = u.square_().add_(v.square_()).sqrt_()
    edge = (torch.minimum(across, down) * size).unsqueeze(2)  # pixels per unit of radius where the ellipse is thinnest
    return radius.neg_().add_(1).mul_(edge).add_(0.5).clamp_(0, 1)
