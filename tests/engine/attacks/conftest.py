"""A small network with random weights that is sure of its answers, and pictures for it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cnnvis_cli.engine.attacks.problem import Goal
from cnnvis_cli.engine.network.network import Network, Preprocessing


@pytest.fixture(scope="package")
def classifier() -> nn.Module:
    """Ten classes from pictures (B, 3, 24, 24) in [0, 1]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(800, 10),
        )
        nn.init.normal_(module[-1].weight, std=3.0)
    return module.eval()


@pytest.fixture(scope="package")
def network(classifier: nn.Module) -> Network:
    return Network.frozen("small", classifier, Preprocessing((0.0,) * 3, (1.0,) * 3, 24, 24))


@pytest.fixture
def pictures(generator: torch.Generator) -> Tensor:
    """(12, 3, 24, 24), 8-bit, some values at 0 and at 1."""
    smooth = torch.rand(12, 3, 6, 6, generator=generator)
    large = nn.functional.interpolate(smooth, scale_factor=4, mode="bilinear")
    return ((1.4 * large - 0.2).clamp(0, 1) * 255).round() / 255


@pytest.fixture
def goal(network: Network, pictures: Tensor) -> Goal:
    """Anything but what the network says."""
    return Goal(network(pictures).argmax(1))


@pytest.fixture
def targeted(network: Network, pictures: Tensor) -> Goal:
    """The third most likely class."""
    logits = network(pictures)
    return Goal(logits.argmax(1), logits.topk(3).indices[:, 2])
