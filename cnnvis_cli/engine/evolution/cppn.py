"""The indirect encoding: small graphs of functions over the plane (compositional pattern-producing networks) that grow.

Stanley 2007, "Compositional pattern producing networks"; used on classifiers by Nguyen et al. 2015. A whole population is
rendered as one program: all nodes of a level at once, whatever graphs they belong to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.engine.errors import UserError, did_you_mean
from cnnvis_cli.engine.evolution.encoding import Genome, Images, hsv_to_rgb, mutate_uniformly, to_uint8

INPUTS = 4  # x, y, distance to the centre, and a constant 1
WEIGHT = 10.0  # weights lie in [-WEIGHT, WEIGHT]
# All of them give [-1, 1].
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sine": torch.sin_,
    "sigmoid": lambda x: x.mul_(0.5).tanh_(),
    "gaussian": lambda x: x.square_().neg_().exp_().mul_(2).sub_(1),
    "linear": lambda x: x.clamp_(-3, 3).mul_(1 / 3),
}
# Chance of each change per child; of `function` per node and of `weight` per link. From the paper's code, where they have one.
RATES: Mapping[str, float] = {
    "add_node": 0.1,
    "add_link": 0.5,
    "split": 0.5,
    "remove_link": 0.3,
    "remove_node": 0.2,
    "function": 0.1,
    "weight": 0.1,
}
_BLOCK_VALUES = 2_000_000  # values in work at a time: what a second-level cache holds


class Cppn:
    """Genomes (hidden + outputs, 1 + inputs + hidden) float32: a row per node, its function, then the weights of its links.

    Weight 0 is no link. A node takes only from inputs and from hidden nodes above it, so rows stand in the order of
    evaluation and there are no cycles. Outputs: hue, saturation, value; or one grey. Graphs start without hidden nodes.
    """

    resizable = True

    def __init__(
        self,
        size: int,
        *,
        grayscale: bool = False,
        rates: Mapping[str, float] | None = None,
        eta_m: float = 15.0,
        most_nodes: int = 60,
        device: torch.device | str = "cpu",
    ) -> None:
        unknown = [name for name in rates or {} if name not in RATES]
        if unknown:
            raise UserError(f"no CPPN mutation '{unknown[0]}'.{did_you_mean(unknown[0], RATES)} There are: {', '.join(RATES)}.")
        self.size, self.outputs, self.device = size, 1 if grayscale else 3, device
        self.rates, self.eta_m, self.most_nodes = {**RATES, **(rates or {})}, eta_m, most_nodes

    def random(self, count: int, rng: np.random.Generator) -> list[Genome]:
        genomes = []
        for _ in range(count):
            functions = rng.integers(len(FUNCTIONS), size=(self.outputs, 1))
            weights = rng.uniform(-WEIGHT, WEIGHT, (self.outputs, INPUTS))
            genomes.append(np.concatenate([functions, weights], 1).astype(np.float32))
        return genomes

    def vary(self, pairs: Sequence[tuple[Genome, Genome]], generation: int, rng: np.random.Generator) -> list[Genome]:
        """By mutation of the first parent alone, as in the paper's code."""
        return [self._mutate(first, rng) for first, _ in pairs]

    def _mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        due = {name: rng.random() < rate for name, rate in self.rates.items()}
        hidden = len(genome) - self.outputs
        if due["remove_node"] and hidden:
            genome = _without_node(genome, int(rng.integers(hidden)))
        if due["remove_link"]:
            genome = _with_weight(genome, _pick(genome[:, 1:] != 0, rng), 0.0)
        if due["split"] and len(genome) - self.outputs < self.most_nodes:
            genome = _split(genome, self.outputs, rng)
        if due["add_node"] and len(genome) - self.outputs < self.most_nodes:
            genome = _with_node(genome, self.outputs, rng)
        if due["add_link"]:
            free = _allowed(genome, self.outputs) & (genome[:, 1:] == 0)
            genome = _with_weight(genome, _pick(free, rng), rng.uniform(-WEIGHT, WEIGHT))
        return self._mutate_numbers(genome, rng)

    def _mutate_numbers(self, genome: Genome, rng: np.random.Generator) -> Genome:
        weights = genome[:, 1:]
        linked = weights != 0
        genome = genome.copy()
        genome[:, 1:][linked] = mutate_uniformly(weights[linked], self.rates["weight"], self.eta_m, -WEIGHT, WEIGHT, rng)
        changed = rng.random(len(genome)) < self.rates["function"]
        genome[changed, 0] = rng.integers(len(FUNCTIONS), size=int(changed.sum()))
        return genome

    @torch.no_grad()
    def render(self, genomes: Sequence[Genome], size: int | None = None) -> Images:
        size = size or self.size
        program = Program.of(genomes, self.outputs, self.device)
        images = np.empty((len(genomes), size * size, 3), np.uint8)
        for pixels, values in program.run(size):
            parts = values.add_(1).mul_(0.5).unbind(1)
            colours = parts * 3 if self.outputs == 1 else hsv_to_rgb(*parts)
            for channel, colour in enumerate(colours):
                images[:, pixels, channel] = to_uint8(colour)
        return images.reshape(len(genomes), size, size, 3)


def _allowed(genome: Genome, outputs: int) -> np.ndarray:
    """Which links there may be: from any input, and from hidden nodes that stand above."""
    hidden = len(genome) - outputs
    node, source = np.ogrid[: len(genome), : INPUTS + hidden]
    return source < INPUTS + node


def _pick(choices: np.ndarray, rng: np.random.Generator) -> tuple[int, int] | None:
    """One of the true places, or None where there is none."""
    places = np.argwhere(choices)
    return tuple(places[rng.integers(len(places))]) if len(places) else None


def _with_weight(genome: Genome, link: tuple[int, int] | None, weight: float) -> Genome:
    if link is None:
        return genome
    genome = genome.copy()
    genome[link[0], 1 + link[1]] = weight
    return genome


def _without_node(genome: Genome, node: int) -> Genome:
    return np.delete(np.delete(genome, node, 0), 1 + INPUTS + node, 1)


def _inserted(genome: Genome, node: int, rng: np.random.Generator) -> Genome:
    """With a new hidden node at that row, of a random function, not linked yet."""
    genome = np.insert(np.insert(genome, node, 0, 0), 1 + INPUTS + node, 0, 1)
    genome[node, 0] = rng.integers(len(FUNCTIONS))
    return genome


def _split(genome: Genome, outputs: int, rng: np.random.Generator) -> Genome:
    """A link gives way to a node with a link of weight 1 into it and one of the old weight out of it, as in NEAT."""
    link = _pick(genome[:, 1:] != 0, rng)
    if link is None:
        return genome
    target, source = link
    node = min(target, len(genome) - outputs)  # above its target, below its source
    weight = genome[target, 1 + source]
    genome = _inserted(_with_weight(genome, link, 0.0), node, rng)
    genome[node, 1 + source] = 1.0
    genome[target + 1, 1 + INPUTS + node] = weight
    return genome


def _with_node(genome: Genome, outputs: int, rng: np.random.Generator) -> Genome:
    """A node out of nothing: one link into it and one out of it, of random weights."""
    node = int(rng.integers(len(genome) - outputs + 1))
    genome = _inserted(genome, node, rng)
    genome[node, 1 + rng.integers(INPUTS + node)] = rng.uniform(-WEIGHT, WEIGHT)
    genome[rng.integers(node + 1, len(genome)), 1 + INPUTS + node] = rng.uniform(-WEIGHT, WEIGHT)
    return genome


@dataclass(frozen=True)
class _Level:
    """Nodes that need only values from earlier levels. They stand side by side from row `start`, sorted by function."""

    start: int
    sources: Tensor  # (links,) rows to take from
    weights: Tensor  # (links,)
    offsets: Tensor  # (nodes,) where each node's links begin
    runs: tuple[tuple[str, int, int], ...]  # function, first and last node + 1 within the level


@dataclass(frozen=True)
class Program:
    """A population of graphs as levels of rows. Rows 0 to 3 are the inputs, which all graphs share."""

    levels: tuple[_Level, ...]
    rows: int
    outputs: Tensor  # (genomes, outputs) their rows

    @classmethod
    def of(cls, genomes: Sequence[Genome], outputs: int, device: torch.device | str = "cpu") -> Program:
        functions, links = _padded(genomes, outputs)
        level, alive = _levels(links, outputs)
        owner, node = np.nonzero(alive)
        order = np.lexsort((functions[owner, node], level[owner, node]))
        owner, node = owner[order], node[order]
        row = np.zeros((len(genomes), INPUTS + links.shape[1]), np.int64)  # row of each source or output
        row[:, :INPUTS] = np.arange(INPUTS)
        row[owner, INPUTS + node] = INPUTS + np.arange(len(owner))
        levels, weights = [], links[owner, node]
        start = 0
        for number in range(1, int(level[alive].max(initial=0)) + 1):
            stop = start + int((level[owner[start:], node[start:]] == number).sum())
            which, source = np.nonzero(weights[start:stop])
            kinds = functions[owner[start:stop], node[start:stop]]
            edges = np.searchsorted(kinds, np.arange(len(FUNCTIONS) + 1))
            runs = zip(FUNCTIONS, edges[:-1].tolist(), edges[1:].tolist(), strict=True)
            levels.append(
                _Level(
                    INPUTS + start,
                    torch.from_numpy(row[owner[start:stop][which], source]).to(device),
                    torch.from_numpy(weights[start:stop][which, source]).to(device),
                    torch.from_numpy(np.searchsorted(which, np.arange(stop - start))).to(device),
                    tuple((name, a, b) for name, a, b in runs if b > a),
                )
            )
            start = stop
        return cls(tuple(levels), INPUTS + len(owner), torch.from_numpy(row[:, -outputs:]).to(device))

    def run(self, size: int) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of pixels and the outputs' values (genomes, outputs, pixels) in [-1, 1] there, on a square of side `size`."""
        device = self.outputs.device
        line = (torch.arange(size, device=device) + 0.5) * (2 / size) - 1
        y, x = (grid.reshape(-1) for grid in torch.meshgrid(line, line, indexing="ij"))
        inputs = torch.stack([x, y, torch.hypot(x, y), torch.ones_like(x)])
        block = max(256, _BLOCK_VALUES // self.rows)
        table = torch.empty((self.rows, min(block, size * size)), device=device)
        for begin in range(0, size * size, block):
            pixels = slice(begin, min(begin + block, size * size))
            values = (
                table[:, : pixels.stop - begin]
                if pixels.stop - begin == table.shape[1]
                else table.new_empty((self.rows, pixels.stop - begin))
            )
            values[:INPUTS] = inputs[:, pixels]
            for level in self.levels:
                sums = F.embedding_bag(
                    level.sources, values[: level.start], level.offsets, mode="sum", per_sample_weights=level.weights
                )
                for name, a, b in level.runs:
                    values[level.start + a : level.start + b] = FUNCTIONS[name](sums[a:b])
            yield pixels, values[self.outputs]


def _padded(genomes: Sequence[Genome], outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Functions (N, nodes) and weights (N, nodes, inputs + hidden) with room for the largest graph; outputs stand last."""
    hidden = max(map(len, genomes)) - outputs
    functions = np.zeros((len(genomes), hidden + outputs), np.int64)
    links = np.zeros((len(genomes), hidden + outputs, INPUTS + hidden), np.float32)
    for i, genome in enumerate(genomes):
        own = len(genome) - outputs
        for target, part in ((slice(0, own), genome[:own]), (slice(hidden, None), genome[own:])):
            functions[i, target] = part[:, 0]
            links[i, target, : INPUTS + own] = part[:, 1:]
    return functions, links


def _levels(links: np.ndarray, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Level of each node (the longest way to it from the inputs, at least 1), and whether any output depends on it."""
    linked = links != 0
    count, nodes, _ = links.shape
    hidden = nodes - outputs
    alive = np.zeros((count, nodes), bool)
    alive[:, hidden:] = True
    for node in range(hidden - 1, -1, -1):
        alive[:, node] = (linked[:, node + 1 :, INPUTS + node] & alive[:, node + 1 :]).any(1)
    level = np.ones((count, nodes), np.int64)
    for node in range(nodes):
        above = min(node, hidden)
        if above:
            level[:, node] += (linked[:, node, INPUTS : INPUTS + above] * level[:, :above]).max(1)
    return level, alive
