"""Style transfer: the loop against the same one written plainly, the exact Wasserstein loss against Newton-Schulz, and memory.

VGG19 with random weights (speed does not depend on them), statistics of relu1_1 to relu5_1, Adam.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision import models

from cnnvis_cli.engine.images import Pixels
from cnnvis_cli.engine.network import Network, Preprocessing
from cnnvis_cli.engine.statistics import Gram, trace_sqrt
from cnnvis_cli.engine.style import Region, StyleLoss, summarize
from cnnvis_cli.engine.synthesize import Loop, evaluator, synthesize
from cnnvis_cli.engine.tiling import Tiled, tiled_evaluator
from cnnvis_cli.engine.variants import padded
from tests.benchmarks.timing import duel, peak_memory

LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
PLAIN = (1, 6, 11, 20, 29)
STEPS = 2


def vgg19() -> nn.Module:
    torch.manual_seed(0)
    return models.vgg19(weights=None).eval()


def picture(size: int, seed: int) -> Tensor:
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed))


def ours(size: int, padding: str = "zeros", tile: int = 0, steps: int = STEPS) -> Callable[[], object]:
    network = Network.frozen("vgg19", vgg19())
    statistic = Gram()
    targets = {
        layer: statistic.target([one], [1.0]) for layer, one in summarize(network, picture(256, 1), statistic, LAYERS).items()
    }
    loss = StyleLoss(statistic, [Region(targets)], dict.fromkeys(LAYERS, 1.0))

    def run() -> object:
        with padded(network, padding):  # type: ignore[arg-type]
            evaluate = tiled_evaluator(Tiled(network, LAYERS, tile), loss) if tile else evaluator(network, loss.objective())
            return synthesize(Loop(Pixels(picture(size, 0)), evaluate, steps, rate=0.02))

    return run


def plainly(size: int, *, frozen: bool) -> Callable[[], object]:
    """As one writes it first: the whole network, hooks, Gram matrices, Adam, memory format as it comes."""
    module, preprocessing = vgg19().requires_grad_(not frozen), Preprocessing()
    for child in module.modules():
        if isinstance(child, nn.ReLU):
            child.inplace = False
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    found: dict[int, Tensor] = {}
    for index in PLAIN:
        module.features[index].register_forward_hook(lambda _, __, output, index=index: found.__setitem__(index, output))

    def grams(pixels: Tensor) -> list[Tensor]:
        module((pixels - mean) / std)
        maps = [found[index].flatten(2)[0] for index in PLAIN]
        return [one @ one.T / one.shape[1] for one in maps]

    with torch.no_grad():
        goals = grams(picture(256, 1))

    def run() -> object:
        pixels = picture(size, 0).requires_grad_()
        adam = torch.optim.Adam([pixels], lr=0.02)
        for _ in range(STEPS):
            adam.zero_grad()
            loss = sum(
                (own - goal).square().sum() / goal.square().sum() for own, goal in zip(grams(pixels), goals, strict=True)
            )
            loss.backward()
            adam.step()
            with torch.no_grad():
                pixels.clamp_(0, 1)
        return pixels

    return run


def newton_schulz(matrix: Tensor, iterations: int = 12) -> Tensor:
    """Square root by the coupled Newton-Schulz iteration, as style-transfer tools have it."""
    norm = matrix.norm()
    y, z, eye = matrix / norm, torch.eye(len(matrix)), 3 * torch.eye(len(matrix))
    for _ in range(iterations):
        t = (eye - z @ y) / 2
        y, z = y @ t, t @ z
    return y * norm.sqrt()


class LyapunovRoot(torch.autograd.Function):
    """Newton-Schulz forward, and back by the iteration for the Lyapunov equation (Lin and Maji 2017)."""

    @staticmethod
    def forward(ctx, matrix: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        root = newton_schulz(matrix)
        ctx.save_for_backward(root)
        return root

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        (root,) = ctx.saved_tensors
        norm, eye = root.norm(), 3 * torch.eye(len(root))
        a, q = root / norm, gradient / norm
        for _ in range(12):
            step = eye - a @ a
            q = (q @ step - a.T @ (a.T @ q - q @ a)) / 2
            a = a @ step / 2
        return q / 2


def root_duel(channels: int) -> str:
    """The term that is dear: the trace of the root of a product of covariances, and its gradient."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(channels, channels, generator=generator) / channels**0.5
    maps = (mix @ torch.randn(channels, 4 * channels, generator=generator)).relu()
    matrix = torch.cov(maps) @ torch.cov(maps.roll(1, 0)).mT
    matrix = (matrix @ matrix.mT) + 1e-5 * torch.eye(channels)

    def gradient(value: Callable[[Tensor], Tensor], precise: torch.dtype) -> Callable[[], object]:
        leaf = matrix.to(precise).requires_grad_()
        return lambda: torch.autograd.grad(value(leaf).sum(), leaf)

    mine = gradient(lambda leaf: trace_sqrt(leaf[None]), torch.float64)
    return str(duel(mine, gradient(lambda leaf: LyapunovRoot.apply(leaf).trace(), torch.float32)))


def main() -> None:
    if sys.argv[1:]:  # alone, for its peak memory
        size, tile = map(int, sys.argv[1:])
        ours(size, "replicate", tile, steps=1)()
        return
    print(f"{torch.get_num_threads()} threads; medians of pairwise ratios")
    for padding in ("zeros", "replicate"):
        for frozen in (False, True):
            result = duel(ours(256, padding), plainly(256, frozen=frozen), rounds=5)
            against = "frozen weights" if frozen else "weights that ask for gradients"
            print(f"  {STEPS} steps at 256 px, {padding} at the border, against {against}: {result}")
    for channels in (128, 256, 512):
        print(f"  W2's root, {channels} channels, against Newton-Schulz: {root_duel(channels)}")
    print(
        f"  one step at 2048 px in tiles of 512: peak memory {peak_memory('tests.benchmarks.bench_style', '2048', '512')} MiB"
    )


if __name__ == "__main__":
    main()
