"""PGD-20 against torchattacks and foolbox: linf, epsilon 8/255, without and with early stop, on the very same module.

Random weights and pictures are used, unless the first argument is a file of squeezenet1_0 weights and the second a folder of
pictures; early stop then shows what it saves on pictures that are truly recognized. All contenders get frozen weights.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import foolbox
import torch
import torchattacks
from torch import Tensor, nn
from torchvision import models

from cnnvis_cli.engine.attacks.ball import pgd
from cnnvis_cli.engine.attacks.bound import Bound
from cnnvis_cli.engine.attacks.problem import Goal, Problem
from cnnvis_cli.engine.network.network import IMAGENET_MEAN, IMAGENET_STD, Network
from cnnvis_cli.networks.load import read_weights
from cnnvis_cli.pictures.read import find_pictures, read, to_square
from tests.benchmarks.timing import duel

EPSILON, RATE, STEPS = 8 / 255, 2 / 255, 20


class Normalized(nn.Module):
    """What the other libraries are given: pictures in [0, 1] in, logits out."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.module((pictures - self.mean) / self.std)


def contenders(module: nn.Module, pictures: Tensor, *, early: bool) -> dict[str, Callable[[], object]]:
    network = Network.frozen("squeezenet1_0", module)
    with torch.no_grad():
        labels = network(pictures).argmax(1)
    plain = Normalized(module).eval().requires_grad_(False)
    theirs = torchattacks.PGD(plain, eps=EPSILON, alpha=RATE, steps=STEPS)
    box = foolbox.PyTorchModel(plain, bounds=(0, 1), device="cpu")
    pool = foolbox.attacks.LinfPGD(abs_stepsize=RATE, steps=STEPS)

    def ours() -> Tensor:
        problem = Problem(network, pictures, Goal(labels), Bound("linf", EPSILON))
        return pgd(problem, steps=STEPS, rate=RATE, stop_early=early)

    return {
        "ours": ours,
        "torchattacks": lambda: theirs(pictures, labels),
        "foolbox": lambda: pool(box, pictures, labels, epsilons=EPSILON),
    }


def main() -> None:
    torch.manual_seed(0)
    module = models.squeezenet1_0(weights=None)
    pictures = torch.rand(4, 3, 224, 224)
    if len(sys.argv) > 1:
        module.load_state_dict(read_weights(Path(sys.argv[1])))
        pictures = torch.cat([to_square(read(source), 224, 256) for source in find_pictures(sys.argv[2])])
    print(f"PGD-{STEPS}, {len(pictures)} pictures, squeezenet1_0, {torch.get_num_threads()} threads")
    for early in (False, True):
        runs = contenders(module.eval(), pictures, early=early)
        for peer in ("torchattacks", "foolbox"):
            result = duel(runs["ours"], runs[peer], rounds=5)
            print(f"{'early stop' if early else 'all steps':>10} against {peer:<12} {result}", flush=True)


if __name__ == "__main__":
    main()
