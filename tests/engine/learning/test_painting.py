"""The loss of stylizers: that of the optimizer, a style for each picture; lattices."""

from __future__ import annotations

import pytest
import torch

from cnnvis_cli.engine.learning.painting import PaintingLoss, lattice
from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.statistics import Gram
from cnnvis_cli.engine.synthesis.style import summarize
from cnnvis_cli.pictures.read import read, resize, sample

LAYERS = ["relu1_1", "relu2_1"]


def loss(network: Network) -> PaintingLoss:
    statistic = Gram()
    targets = []
    for name in ("brick", "starry_night"):
        found = summarize(network, resize(read(sample(name)), 64, 64), statistic, LAYERS)
        targets.append({layer: statistic.target([found[layer]], [1.0]) for layer in LAYERS})
    return PaintingLoss(
        network, statistic, targets, dict.fromkeys(LAYERS, 1.0), {"relu2_1": 1.0}, strength=0.7, tv=0.1, even=1.0
    )


def test_a_batch_is_its_pictures_each_with_its_style_and_content(minivgg: Network, generator: torch.Generator) -> None:
    made, content = torch.rand(2, 3, 3, 48, 48, generator=generator)
    styles = [1, 0, 1]
    together = loss(minivgg).terms(made, content, styles)
    assert set(together) == {"style", "content", "tv", "lattice"}
    for row, style in enumerate(styles):
        alone = loss(minivgg).terms(made[row : row + 1], content[row : row + 1], [style])
        for name, value in alone.items():
            assert together[name][row].item() == pytest.approx(value.item(), rel=1e-4), name


def test_it_is_the_optimizers_loss(minivgg: Network, generator: torch.Generator) -> None:
    made, content = torch.rand(2, 1, 3, 48, 48, generator=generator)
    objective = loss(minivgg).at(content, 1).objective()
    terms = loss(minivgg).terms(made, content, [1])
    value = objective(activations(minivgg, made, objective.layers)).item()
    assert -value == pytest.approx((terms["style"] + terms["content"]).item(), rel=1e-4)
    assert loss(minivgg).terms(content, content, [1])["content"].item() == pytest.approx(0, abs=1e-6)


def test_a_lattice_is_what_repeats_every_four_pixels() -> None:
    ramp = torch.linspace(0, 1, 96).expand(1, 3, 96, 96)
    photograph = resize(read(sample("coffee")), 96, 96)
    dots = torch.zeros(1, 3, 96, 96)
    dots[..., ::4, ::4] = 0.05
    stripes = torch.zeros(1, 3, 96, 96)
    stripes[..., ::2] = 0.05
    assert lattice(ramp) < 1e-6
    assert lattice(photograph) < 0.02
    assert lattice(photograph + dots) > 3 * lattice(photograph)
    assert lattice(0.5 + dots) > 0.9
    assert lattice(ramp + stripes) > 0.9
    assert lattice(torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))) < 0.02
    assert torch.isfinite(lattice(torch.full((1, 3, 24, 20), 0.5)))
