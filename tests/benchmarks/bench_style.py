"""Style transfer: the loop against the same one written plainly, the exact Wasserstein loss against Newton-Schulz, and memory.

VGG19 with random weights (speed does not depend on them), statistics of relu1_1 to relu5_1, Adam. Wasserstein: a layer's whole
loss with its gradient with respect to the layer's maps.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision import models

from cnnvis_cli.engine.locality.tiling import Tiled, tiled_value_gradient
from cnnvis_cli.engine.network.modifications import padded
from cnnvis_cli.engine.network.network import Network, Preprocessing
from cnnvis_cli.engine.optim.evaluate import value_gradient
from cnnvis_cli.engine.optim.loop import Loop, synthesize
from cnnvis_cli.engine.optim.parameterizations import Pixels
from cnnvis_cli.engine.statistics import Gram, Wasserstein
from cnnvis_cli.engine.synthesis.style import Region, StyleLoss, summarize
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
            evaluate = (
                tiled_value_gradient(Tiled(network, LAYERS, tile), loss) if tile else value_gradient(network, loss.objective())
            )
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


# Channels and side of relu1_1 to relu5_1 of VGG19 for a picture of 256 px.
SHAPES = ((64, 256), (128, 128), (256, 64), (512, 32), (512, 16))


def features(channels: int, side: int, seed: int) -> Tensor:
    """Correlated, rectified maps (1, C, H, W) in the network's memory format."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(channels, channels, generator=generator) / channels**0.5
    maps = (mix @ torch.randn(channels, side * side, generator=generator)).relu()
    return maps.view(1, channels, side, side).contiguous(memory_format=torch.channels_last)


def moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (C,) and covariance (C, C), with what keeps Newton-Schulz from failing, as style-transfer-pytorch has it."""
    flat = maps.flatten(2)[0]
    centred = flat - flat.mean(1, keepdim=True)
    return flat.mean(1), centred @ centred.T / flat.shape[1] + 1e-4 * torch.eye(len(flat))


Whole = Callable[[], object]


def wasserstein_contenders(channels: int, side: int) -> tuple[Whole, Whole]:
    """One layer's loss, covariance included, and its gradient with respect to the maps: ours, and by Newton-Schulz."""
    goal, leaf, statistic = features(channels, side, 1), features(channels, side, 0).requires_grad_(), Wasserstein()
    target = statistic.target([statistic.summary(goal)], [1.0])
    goal_mean, goal_covariance = moments(goal)
    goal_root = newton_schulz(goal_covariance)

    def by_newton_schulz() -> Tensor:
        mean, covariance = moments(leaf)
        root = LyapunovRoot.apply(goal_root @ covariance @ goal_root)
        return (mean - goal_mean).square().mean() + (goal_covariance + covariance - 2 * root).diagonal().mean()

    return (
        lambda: torch.autograd.grad(statistic.between(leaf, target).sum(), leaf),
        lambda: torch.autograd.grad(by_newton_schulz(), leaf),
    )


def wasserstein_duels() -> None:
    pairs = [wasserstein_contenders(*shape) for shape in SHAPES]
    for (channels, side), pair in zip(SHAPES, pairs, strict=True):
        print(f"  W2 loss and its gradient, {channels} maps of {side} x {side}, against Newton-Schulz: {duel(*pair)}")
    both = duel(lambda: [mine() for mine, _ in pairs], lambda: [theirs() for _, theirs in pairs])
    print(f"  the five layers together: {both}")


def main() -> None:
    if sys.argv[1:]:  # alone, for its peak memory
        size, tile = map(int, sys.argv[1:])
        ours(size, "replicate", tile, steps=1)()
        return
    print(f"{torch.get_num_threads()} threads; medians of pairwise ratios")
    for padding in ("zeros", "replicate"):
        for frozen in (False, True):
            result = duel(ours(256, padding), plainly(256, frozen=frozen), rounds=5)
            print(f"  {STEPS} steps at 256 px, {padding} padding, against weights {'' if frozen else 'not '}frozen: {result}")
    wasserstein_duels()
    print(
        f"  one step at 2048 px in tiles of 512: peak memory {peak_memory('tests.benchmarks.bench_style', '2048', '512')} MiB"
    )


if __name__ == "__main__":
    main()
