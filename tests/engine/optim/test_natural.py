"""Phases over natural magnitudes, and crops of a canvas."""

from __future__ import annotations

import torch
from torch import Tensor

from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.crops import Crops
from cnnvis_cli.engine.optim.evaluate import value_gradient
from cnnvis_cli.engine.optim.loop import Loop, synthesize
from cnnvis_cli.engine.optim.natural import natural_spectrum
from cnnvis_cli.engine.optim.objectives import channel
from cnnvis_cli.engine.optim.parameterizations import Phases


def clouds(count: int, side: int) -> Tensor:
    """(N, 3, S, S) smooth reddish pictures: brightness varies most, and with it red more than blue."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(count, 1, side // 8, side // 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic", align_corners=False)
    tint = torch.tensor([0.12, 0.08, 0.03]).view(1, 3, 1, 1)
    return (0.5 + tint * smooth + 0.01 * torch.randn(count, 3, side, side, generator=generator)).clamp(0, 1)


def test_pictures_of_any_phases_have_the_colours_and_frequencies_of_the_natural_ones() -> None:
    natural = clouds(6, 64)
    spectrum = natural_spectrum(natural)
    made = Phases.from_noise(range(6), 64, 64, spectrum)().detach()
    torch.testing.assert_close(made.mean((0, 2, 3)), natural.mean((0, 2, 3)), atol=0.03, rtol=0)
    torch.testing.assert_close(made.std((2, 3)).mean(0), natural.std((2, 3)).mean(0), atol=0.02, rtol=0.25)
    fine = natural.diff(dim=3).std() / natural.std()
    assert 0.6 < (made.diff(dim=3).std() / made.std()) / fine < 1.6


def test_magnitudes_stay_and_phases_move() -> None:
    spectrum = natural_spectrum(clouds(4, 32))
    image = Phases.from_noise([0], 32, 32, spectrum)
    loop = Loop(image, lambda pictures, index: (pictures[:, 0, 16, 16], _one_pixel(pictures)), steps=20, rate=0.2)
    before, after = image().detach(), synthesize(loop).pictures
    assert after[0, 0, 16, 16] > before[0, 0, 16, 16] + 0.1
    size = [
        torch.fft.rfft2(torch.logit(p.clamp(1e-4, 1 - 1e-4)), norm="ortho").abs()[..., 1:, 1:].square().sum()
        for p in (before, after)
    ]
    torch.testing.assert_close(size[0], size[1], rtol=0.02, atol=0)


def _one_pixel(pictures: Tensor) -> Tensor:
    gradient = torch.zeros_like(pictures)
    gradient[:, 0, 16, 16] = 1
    return gradient


def test_crops_are_drawn_alike_for_all_pictures_and_in_their_order() -> None:
    first, second = torch.rand(2, 1, 3, 60, 80, generator=torch.Generator().manual_seed(0))
    crops = Crops(4, 16, noise=0.0)
    both = crops(torch.cat([first, second]), torch.Generator().manual_seed(3))
    alone = crops(second, torch.Generator().manual_seed(3))
    assert both.shape == (8, 3, 16, 16)
    torch.testing.assert_close(both[4:], alone)
    flat = crops(torch.full((1, 3, 50, 50), 0.25), torch.Generator().manual_seed(1))
    torch.testing.assert_close(flat, torch.full_like(flat, 0.25))


def test_the_gradient_of_crops_is_that_of_their_mean(minivgg: Network) -> None:
    pictures = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    crops, objective = Crops(3, 48, noise=0.0), channel("conv2_1", 3)
    evaluate = value_gradient(minivgg, objective, crops=crops, generator=torch.Generator().manual_seed(5))
    values, gradient = evaluate(pictures, torch.arange(2))
    step = 1e-2 * gradient / gradient.norm()
    again = value_gradient(minivgg, objective, crops=crops, generator=torch.Generator().manual_seed(5))
    risen, _ = again(pictures + step, torch.arange(2))
    assert values.shape == (2,)
    torch.testing.assert_close((risen - values).sum(), (gradient * step).sum(), rtol=0.1, atol=1e-5)
