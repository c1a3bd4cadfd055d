"""Occlusion and saliency against captum: the same numbers, how much faster, how much memory.

    python -m tests.benchmarks.bench_attribution [--networks vgg16 squeezenet1_0 resnet18] [--full]

Random weights (speed does not depend on them), 224 px. Contenders take turns, so that a busy machine slows both; medians of
ratios. captum gets the network as torchvision makes it and its best `perturbations_per_eval`. One window costs captum the
same wherever it lies: without --full it is timed on a coarse grid and scaled up to the number of windows.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import torchvision
from captum.attr import Occlusion, Saliency
from torch import Tensor, nn

from cnnvis_cli.engine.attribution import gradient
from cnnvis_cli.engine.network import Network
from cnnvis_cli.engine.objectives import class_logit
from cnnvis_cli.engine.occlusion import occlude

SIZE = 224
GRIDS = ((32, 8), (16, 4))


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def module_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.get_model(name, weights=None).eval()


def picture() -> Tensor:
    return torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def captum_occlusion(module: nn.Module, window: int, stride: int, per_eval: int) -> None:
    with torch.no_grad():
        Occlusion(module).attribute(
            picture()[None], (3, window, window), strides=(3, stride, stride), target=0, perturbations_per_eval=per_eval
        )


def our_occlusion(network: Network, window: int, stride: int) -> None:
    image = picture()
    fill = torch.full_like(image, 0.5)
    found = occlude(network, image, class_logit(network, 0), fill, window=(window, window), stride=(stride, stride))
    assert found.incremental, found.reason


def windows(window: int, stride: int) -> int:
    return (math.ceil((SIZE - window) / stride) + 1) ** 2


def bench_occlusion(name: str, window: int, stride: int, full: bool) -> str:
    module = module_of(name)
    network = Network.frozen(name, module)
    coarse = stride if full else window
    scale = windows(window, stride) / windows(window, coarse)
    trials = {n: seconds(lambda n=n: captum_occlusion(module, window, coarse, n)) for n in (1, 4, 16)}
    best = min(trials, key=trials.__getitem__)
    ours, theirs = [], []
    for _ in range(1 if full else 3):
        theirs.append(scale * seconds(lambda: captum_occlusion(module, window, coarse, best)))
        ours.append(seconds(lambda: our_occlusion(network, window, stride)))
        theirs[-1] = (theirs[-1] + scale * seconds(lambda: captum_occlusion(module, window, coarse, best))) / 2
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    return f"{min(ours):7.2f} s  captum {min(theirs):7.2f} s ({best} per eval)  {ratio:.1f} times faster"


def bench_saliency(name: str) -> str:
    module = module_of(name)
    network = Network.frozen(name, module)
    image, target, theirs = picture()[None], class_logit(network, 0), Saliency(module)
    pairs = []
    for turn in range(12):
        ours = seconds(lambda: gradient(network, image, target))
        captum = seconds(lambda: theirs.attribute(image.clone().requires_grad_(True), target=0))
        if turn >= 2:
            pairs.append((ours, captum))
    ratio = statistics.median(b / a for a, b in pairs)
    ours, captum = (statistics.median(column) for column in zip(*pairs, strict=True))
    return f"{ours * 1e3:6.1f} ms  captum {captum * 1e3:6.1f} ms  {ratio:.2f} times faster"


def peak_memory(contender: str, name: str, window: int, stride: int) -> int:
    """MiB by which one contender, alone in a process, raises the peak of resident memory over that after loading."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_attribution", "--contender", contender]
    command += ["--networks", name, "--grid", str(window), str(stride)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def run_contender(contender: str, name: str, window: int, stride: int) -> None:
    module = module_of(name)
    network = Network.frozen(name, module)
    with torch.no_grad():
        module(picture()[None])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if contender == "ours":
        our_occlusion(network, window, stride)
    else:
        captum_occlusion(module, window, window, 16)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=["squeezenet1_0", "resnet18", "vgg16"])
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--contender", choices=["ours", "captum"])
    parser.add_argument("--grid", nargs=2, type=int)
    options = parser.parse_args()
    grids = [tuple(options.grid)] if options.grid else GRIDS
    if options.contender:
        return run_contender(options.contender, options.networks[0], *grids[0])
    for name in options.networks:
        print(f"{name:14} saliency             {bench_saliency(name)}", flush=True)
        for window, stride in grids:
            line = bench_occlusion(name, window, stride, options.full)
            memory = [peak_memory(contender, name, window, stride) for contender in ("ours", "captum")]
            print(
                f"{name:14} occlusion {window:2} by {stride}    {line}; peak {memory[0]} MiB, captum {memory[1]} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
