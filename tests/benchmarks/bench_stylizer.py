"""A stylizer's pass against the network of pytorch/examples' fast_neural_style (random weights: speed does not depend on them),
the exact strips against the whole at large sizes, and what training does besides network and loss."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor

from cnnvis_cli.engine.generators.fast_neural_style import FastNeuralStyle
from cnnvis_cli.engine.generators.stylizer import Stylizer, StylizerShape
from cnnvis_cli.engine.synthesis.passes import stylized
from tests.benchmarks.timing import duel, peak_memory

SIZES = (256, 512, 1024)


def picture(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


def ours(height: int, width: int, strip: int | None = None) -> Callable[[], object]:
    network = Stylizer(StylizerShape(4)).requires_grad_(False).eval().to(memory_format=torch.channels_last)
    shown, shares = picture(height, width), torch.tensor([[1.0, 0, 0, 0]])
    return lambda: stylized(network, shown, shares, strip=strip)


def theirs(height: int, width: int) -> Callable[[], object]:
    network = FastNeuralStyle().requires_grad_(False).eval()
    shown = picture(height, width)

    @torch.no_grad()
    def run() -> Tensor:
        return network(shown)

    return run


def main() -> None:
    if len(sys.argv) > 1:  # for the measurement of memory
        {"ours": ours, "theirs": theirs}[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]))()
        return
    for size in SIZES:
        print(f"pass at {size} px      {duel(ours(size, size), theirs(size, size), rounds=5)}")
    print(f"strips at 1024 px    {duel(ours(1024, 1024, 32), ours(1024, 1024, 0), rounds=3)}")
    module = "tests.benchmarks.bench_stylizer"
    for who, height, width in (("ours", 512, 512), ("theirs", 512, 512), ("ours", 2160, 3840)):
        print(f"peak memory of {who} at {width} x {height}: {peak_memory(module, who, str(height), str(width))} MiB")


if __name__ == "__main__":
    main()
