"""Occlusion and saliency against captum: the same numbers, how much faster, how much memory.

    python -m tests.benchmarks.bench_attribution [full] [NETWORK ...]

Random weights (speed does not depend on them), 224 px. captum gets the network as torchvision makes it and its best
`perturbations_per_eval`. A window costs captum the same wherever it lies: unless `full`, it is timed on windows side by side
and scaled up to the number of windows.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import torch
from captum.attr import Occlusion, Saliency
from torch import Tensor, nn
from torchvision import models

from cnnvis_cli.engine.attribution.gradients import gradient
from cnnvis_cli.engine.attribution.occlusion import occlude
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.objectives import class_logit
from tests.benchmarks.timing import Duel, duel, peak_memory, seconds

NETWORKS = ("squeezenet1_0", "resnet18", "vgg16")
GRIDS = ((32, 8), (16, 4))
SIZE = 224


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return models.get_model(name, weights=None).eval()


def picture() -> Tensor:
    return torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def theirs(module: nn.Module, window: int, stride: int, per_eval: int) -> Callable[[], object]:
    sizes, strides = (3, window, window), (3, stride, stride)

    @torch.no_grad()
    def run() -> object:
        return Occlusion(module).attribute(picture()[None], sizes, strides, target=0, perturbations_per_eval=per_eval)

    return run


def ours(module: nn.Module, window: int, stride: int) -> Callable[[], object]:
    network = Network.frozen("network", module)

    def run() -> object:
        image, target = picture(), class_logit(network, 0)
        found = occlude(network, image, target, torch.zeros_like(image), window=(window, window), stride=(stride, stride))
        assert found.incremental, found.reason
        return found

    return run


def windows(window: int, stride: int) -> int:
    return (math.ceil((SIZE - window) / stride) + 1) ** 2


def occlusion_line(name: str, window: int, stride: int, full: bool) -> str:
    module = build(name)
    apart = stride if full else window
    best = min((1, 4, 16), key=lambda count: seconds(theirs(module, window, window, count)))
    result = duel(ours(module, window, stride), theirs(module, window, apart, best), rounds=1 if full else 3, warmup=0)
    scale = windows(window, stride) / windows(window, apart)
    scaled = Duel(result.ours, scale * result.theirs, tuple(scale * ratio for ratio in result.ratios))
    memory = [
        peak_memory("tests.benchmarks.bench_attribution", who, name, str(window), str(stride), str(best))
        for who in ("ours", "theirs")
    ]
    return f"{scaled}, captum {best} per eval; peak memory {memory[0]} and {memory[1]} MiB"


def saliency_line(name: str) -> str:
    module = build(name)
    network = Network.frozen(name, module)
    image, target, captum = picture()[None], class_logit(network, 0), Saliency(module)
    return str(
        duel(
            lambda: gradient(network, image, target),
            lambda: captum.attribute(image.clone().requires_grad_(True), target=0),
            rounds=15,
            warmup=3,
        )
    )


def main(words: list[str]) -> None:
    if words and words[0] in ("ours", "theirs"):  # one contender alone, for its peak memory
        module, (window, stride, per_eval) = build(words[1]), map(int, words[2:])
        (ours(module, window, stride) if words[0] == "ours" else theirs(module, window, window, per_eval))()
        return
    print(f"against captum, {SIZE} px, {torch.get_num_threads()} threads")
    for name in [word for word in words if word != "full"] or NETWORKS:
        print(f"{name:>14} saliency           {saliency_line(name)}", flush=True)
        for window, stride in GRIDS:
            print(
                f"{name:>14} window {window}, stride {stride}  {occlusion_line(name, window, stride, 'full' in words)}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
