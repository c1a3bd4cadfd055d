"""One step of feature visualization against torch-lucent's, both with their own default transforms.

Random weights (speed does not depend on them), a channel of a middle layer, one picture. Lucent enlarges pictures under
224 px to 224 before the network; we do not, which is the larger part of the difference at 128 px.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from lucent.optvis import param, render
from torchvision import models

from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim import objectives
from cnnvis_cli.engine.optim.evaluate import value_gradient
from cnnvis_cli.engine.optim.loop import Loop, synthesize
from cnnvis_cli.engine.optim.parameterizations import Fourier
from cnnvis_cli.engine.optim.transforms import affine
from tests.benchmarks.timing import duel, peak_memory

# torchvision's name of the layer, and lucent's.
LAYERS = {
    "resnet18": ("layer3.0", "layer3_0"),
    "squeezenet1_0": ("features.8", "features_8"),
    "vgg16": ("features.20", "features_20"),
}
STEPS = 16


def build(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return models.get_model(name, weights=None).eval()


def ours(name: str, size: int) -> Callable[[], object]:
    network = Network.frozen(name, build(name), copied=False)

    def run() -> object:
        generator = torch.Generator().manual_seed(0)
        evaluate = value_gradient(
            network,
            objectives.channel(LAYERS[name][0], 5),
            transform=affine(shift=6, degrees=8, zoom=0.12),
            generator=generator,
        )
        return synthesize(Loop(Fourier.from_noise([0], size, size), evaluate, STEPS, generator=generator))

    return run


def theirs(name: str, size: int) -> Callable[[], object]:
    module = build(name)

    def run() -> object:
        return render.render_vis(
            module, f"{LAYERS[name][1]}:5", lambda: param.image(size), thresholds=(STEPS,), progress=False, show_image=False
        )

    return run


def main() -> None:
    if len(sys.argv) > 1:  # one contender alone, for its peak memory
        who, name, size = sys.argv[1:]
        {"ours": ours, "theirs": theirs}[who](name, int(size))()
        return
    print(f"{STEPS} steps, two contenders in turn, median of pairwise ratios; {torch.get_num_threads()} threads")
    for size in (224, 128):
        for name in LAYERS:
            result = duel(ours(name, size), theirs(name, size))
            memory = [peak_memory("tests.benchmarks.bench_step", who, name, str(size)) for who in ("ours", "theirs")]
            print(f"{name:>14} {size} px  {result}; peak memory {memory[0]} and {memory[1]} MiB", flush=True)


if __name__ == "__main__":
    main()
