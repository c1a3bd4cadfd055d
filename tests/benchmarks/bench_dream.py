"""A step of deep dream (vgg16, relu4_3, 224 px) against the plain one: same network and objective, but the whole network is
run, weights ask for gradients, and activations lie as PyTorch puts them. Random weights: speed does not depend on them."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision import models

from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.evaluate import value_gradient
from cnnvis_cli.engine.optim.loop import Loop, synthesize
from cnnvis_cli.engine.optim.objectives import layer_energy
from cnnvis_cli.engine.optim.parameterizations import Pixels
from cnnvis_cli.engine.synthesis.dream import mirrored_jitter, smoothing
from tests.benchmarks.timing import duel

LAYER, POSITION, SIZE = "relu4_3", 22, 224


def build() -> torch.nn.Module:
    torch.manual_seed(0)
    return models.vgg16(weights=None).eval()


def picture() -> Tensor:
    return torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def ours() -> Callable[[], object]:
    network = Network.frozen("vgg16", build())

    def step() -> object:
        generator = torch.Generator().manual_seed(0)
        evaluate = value_gradient(network, layer_energy(LAYER), transform=mirrored_jitter(32), generator=generator)
        image = Pixels(picture())
        return synthesize(Loop(image, evaluate, 1, "normalized", 0.01, generator=generator, gradient=smoothing(1.0)))

    return step


def plain() -> Callable[[], object]:
    module = build()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def step() -> object:
        seen: list[Tensor] = []
        hook = module.features[POSITION].register_forward_hook(lambda child, inputs, output: seen.append(output.clone()))
        image = picture().requires_grad_()
        module(((image.roll((7, -5), (2, 3))) - mean) / std)
        hook.remove()
        (0.5 * seen[0].square().mean()).backward()
        assert image.grad is not None
        return (image + 0.01 * image.grad / image.grad.abs().mean()).clamp(0, 1)

    return step


def main() -> int:
    found = duel(ours(), plain(), rounds=7)
    print(f"dream step, vgg16 {LAYER}, {SIZE} px, against the plain full-network step: {found}")
    return 0 if found.times_faster >= 1.5 else 1


if __name__ == "__main__":
    sys.exit(main())
