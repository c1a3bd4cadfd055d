"""What a generation of `evolve` costs beyond the bare forward passes of the same pictures; what it takes to be sure, by
encoding; memory; CPPNs against neat-python.

Random weights where speed alone counts (it does not depend on them), and graphs grown as large as real elites' are.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torchvision import models

from cnnvis_cli.engine.evolution import Cppn, Direct, Encoding, Evolution, NetworkBox, Shapes
from cnnvis_cli.engine.network.network import Network, Preprocessing
from cnnvis_cli.networks.bundled import minivgg
from cnnvis_cli.networks.load import NetworkSpec, load_network
from tests.benchmarks.timing import duel, peak_memory

CHILDREN, BATCH, GROWN = 64, 32, 20
ENCODINGS: dict[str, Callable[[int], Encoding]] = {"direct": Direct, "cppn": Cppn, "shapes": Shapes}


def build(name: str) -> Network:
    torch.manual_seed(0)
    if name == "minivgg":
        return Network.frozen(name, minivgg(111), Preprocessing(size=96, resize=96))
    return Network.frozen(name, models.get_model(name, weights=None))


def overhead(name: str, encoding: str) -> None:
    network = build(name)
    size = network.size
    chance = np.random.default_rng(0)
    free = Evolution(ENCODINGS[encoding](size), lambda images: chance.random((len(images), 50)), 50, children=CHILDREN)
    for _ in range(GROWN):  # a judge who picks at random: graphs grow unhindered
        free.step()
        free.archive.scores[:] = 0.0
    evaluate = NetworkBox(network, BATCH)
    seen: list[np.ndarray] = []
    free.evaluate = lambda images: seen.append(images) or evaluate(images)[:, :50]  # type: ignore[func-returns-value]

    @torch.no_grad()
    def bare() -> None:
        for start in range(0, CHILDREN, BATCH):
            network(floats[start : start + BATCH])

    free.step()
    floats = torch.from_numpy(seen[-1]).permute(0, 3, 1, 2).float() / 255
    result = duel(bare, free.step, rounds=9)
    print(f"{name:>14} {encoding:<7} generation {1e3 * result.theirs:7.1f} ms, bare {1e3 * result.ours:7.1f} ms: "
          f"{100 * (result.times_faster - 1):5.1f}% beyond", flush=True)  # fmt: skip


def cost_of_confidence(name: str, generations: int, goal: float = 0.9999) -> None:
    """What direct and cppn cost per generation of 200, and how sure the bundled network gets for it."""
    network, _ = load_network(NetworkSpec(name), torch.device("cpu"))
    grayscale = network.preprocessing.grayscale
    for encoding in (Direct(network.size, grayscale=grayscale), Cppn(network.size, grayscale=grayscale)):
        run = Evolution(encoding, NetworkBox(network), len(network.classes), goal=goal)
        began = time.perf_counter()
        while run.generation < generations and not run.done:
            run.step()
        spent, best = time.perf_counter() - began, run.archive.best
        print(f"{name:>14} {type(encoding).__name__.lower():<7} {1e3 * spent / (run.generation + 1):7.1f} ms a generation; "
              f"after {run.generation} in {spent:.1f} s: median {np.median(best):.2%}, least {best.min():.2%}",
              flush=True)  # fmt: skip


def memory() -> None:
    """A thousand classes of 224 px, directly encoded, on squeezenet1_0: three generations and a saved state."""
    run = Evolution(Direct(224), NetworkBox(build("squeezenet1_0")), 1000, children=200)
    for _ in range(3):
        run.step()
    run.state()


def against_neat_python() -> None:
    """The same 20 grown graphs at 64 px: ours as one program, neat-python's own evaluation pixel by pixel."""
    try:
        from neat.nn import FeedForwardNetwork
    except ImportError:
        print("neat-python is not installed: skipped")
        return
    generator = np.random.default_rng(0)
    encoding = Cppn(64)
    genomes = encoding.random(20, generator)
    for _ in range(20):
        genomes = encoding.vary([(g, g) for g in genomes], 0, generator)
    functions = [np.sin, lambda x: np.tanh(x / 2), lambda x: 2 * np.exp(-x * x) - 1, lambda x: max(-3, min(3, x)) / 3]
    networks = []
    for genome in genomes:
        nodes = []
        for number, row in enumerate(genome):
            links = [(int(s), float(w)) for s, w in enumerate(row[1:]) if w]
            nodes.append((4 + number, functions[int(row[0])], sum, 0.0, 1.0, links))
        outputs = list(range(4 + len(genome) - 3, 4 + len(genome)))
        networks.append(FeedForwardNetwork([0, 1, 2, 3], outputs, nodes))
    line = [(i + 0.5) * 2 / 64 - 1 for i in range(64)]

    def pixel_by_pixel() -> None:
        for network in networks:
            for y in line:
                for x in line:
                    network.activate((x, y, (x * x + y * y) ** 0.5, 1.0))

    began = time.perf_counter()
    pixel_by_pixel()
    theirs = time.perf_counter() - began
    encoding.render(genomes)
    rounds = []
    for _ in range(9):
        began = time.perf_counter()
        encoding.render(genomes)
        rounds.append(time.perf_counter() - began)
    ours = float(np.median(rounds))
    print(
        f"cppn, 20 graphs at 64 px: {1e3 * ours:.1f} ms against neat-python's {1e3 * theirs:.0f} ms: {theirs / ours:.0f} times"
    )


def main() -> None:
    if len(sys.argv) > 1:
        memory()
        return
    print(f"generations of {CHILDREN}, batches of {BATCH}, in turn with the bare passes; {torch.get_num_threads()} threads")
    against_neat_python()
    for name in ("minivgg", "squeezenet1_0"):
        for encoding in ENCODINGS:
            overhead(name, encoding)
    cost_of_confidence("lenet", 50)
    cost_of_confidence("minivgg", 15)
    print(f"1000 classes of 224 px, direct: peak memory {peak_memory('tests.benchmarks.bench_evolve', 'memory')} MiB")


if __name__ == "__main__":
    main()
