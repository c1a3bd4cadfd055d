"""Dreams: octaves keep the picture, guides choose the best fit, jitter loses nothing and draws no frame."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cnnvis_cli.engine.optim.loop import Loop, synthesize_stages
from cnnvis_cli.engine.optim.objectives import layer_energy
from cnnvis_cli.engine.optim.optimizers import mean_magnitude
from cnnvis_cli.engine.optim.parameterizations import Pixels
from cnnvis_cli.engine.optim.regularizers import gaussian_blur
from cnnvis_cli.engine.synthesis.dream import (
    guided,
    mirrored_jitter,
    octave_sizes,
    octaves,
    resampled,
    smoothing,
    toned,
    zoomed,
)


def test_octave_sizes_end_at_the_picture_and_stay_above_the_smallest() -> None:
    assert octave_sizes(400, 300, 3, 2.0, 32) == [(100, 75), (200, 150), (400, 300)]
    assert octave_sizes(400, 300, 5, 2.0, 64) == [(100, 75), (200, 150), (400, 300)]
    assert octave_sizes(20, 20, 4, 1.4, 64) == [(20, 20)]


def test_octaves_that_add_nothing_give_the_picture_back(images: Tensor) -> None:
    """Detail re-injection: resampling up and down costs no sharpness."""

    def nothing(start: Tensor) -> Loop:
        return Loop(Pixels(start), lambda p, i: (torch.zeros(1), torch.zeros_like(p)), 2, "gradient")

    picture = images[:1]
    sizes = octave_sizes(64, 64, 4, 1.4, 16)
    outcomes = synthesize_stages(octaves(picture, sizes, nothing))
    assert [tuple(outcome.pictures.shape[-2:]) for outcome in outcomes] == sizes
    torch.testing.assert_close(outcomes[-1].pictures, picture, rtol=0, atol=1e-5)


def test_details_of_one_octave_reach_the_next(images: Tensor) -> None:
    def brighter(start: Tensor) -> Loop:
        return Loop(Pixels(start), lambda p, i: (torch.zeros(1), torch.ones_like(p)), 1, "gradient", rate=0.1)

    picture = 0.5 * gaussian_blur(images[:1], 1.0)
    outcomes = synthesize_stages(octaves(picture, [(32, 32), (64, 64)], brighter))
    torch.testing.assert_close(outcomes[-1].pictures, picture + 0.2, rtol=0, atol=1e-4)


def test_layer_energy_has_the_activation_as_gradient(generator: torch.Generator) -> None:
    acts = torch.randn(1, 4, 5, 5, generator=generator, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer_energy("x")({"x": acts}).sum(), acts)
    torch.testing.assert_close(gradient * acts.numel(), acts.detach())


def test_guide_pulls_to_the_best_fitting_feature(generator: torch.Generator) -> None:
    features = torch.randn(1, 6, 3, 3, generator=generator)
    acts = torch.randn(2, 6, 4, 5, generator=generator, requires_grad=True)
    values = guided("x", features)({"x": acts})
    products = torch.einsum("bchw,cn->bhwn", acts.detach(), features[0].flatten(1))
    torch.testing.assert_close(values.detach(), products.amax(-1).flatten(1).mean(1))
    (gradient,) = torch.autograd.grad(values.sum(), acts)
    expected = features[0].flatten(1)[:, products[0, 1, 2].argmax()]
    torch.testing.assert_close(gradient[0, :, 1, 2] * 20, expected)


def test_smoothing_leaves_the_colour_of_the_whole_and_strengthens_what_is_coarse(generator: torch.Generator) -> None:
    dye = torch.tensor([3.0, 0.0, 3.0]).view(1, 3, 1, 1).expand(1, 3, 64, 64)  # what a first layer wants: all in magenta
    assert not smoothing(1.0)(dye).any()
    fine = torch.randn(1, 3, 64, 64, generator=generator)
    coarse = gaussian_blur(torch.randn(1, 3, 64, 64, generator=generator), 6.0)
    coarse = 0.2 * coarse / mean_magnitude(coarse)
    smooth = smoothing(1.0)(fine + coarse)
    torch.testing.assert_close(smoothing(1.0)(fine + coarse + dye), smooth, rtol=1e-3, atol=1e-4)

    def share(gradient: Tensor) -> float:
        low = gaussian_blur(gradient, 6.0)
        return (low.square().mean() / gradient.square().mean()).item()

    assert share(smooth) > 2 * share(fine + coarse)


def test_jitter_shifts_whole_pixels_and_mirrors_the_border(images: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    moved = mirrored_jitter(5)(images, generator)
    assert moved.shape == images.shape
    state = torch.Generator().manual_seed(0)
    dy, dx = (torch.randint(0, 11, (2,), generator=state) - 5).tolist()
    torch.testing.assert_close(moved[..., 5:-5, 5:-5], images[..., 5 + dy : 59 + dy, 5 + dx : 59 + dx])
    assert mirrored_jitter(32)(images[..., :8, :8], generator).shape[-2:] == (8, 8)


@pytest.mark.parametrize("factor", [1.0, 1.05])
def test_zoom_keeps_the_middle(factor: float) -> None:
    y = torch.linspace(-1, 1, 65)
    ramp = (0.5 + 0.4 * y).view(1, 1, 65, 1).expand(1, 3, 65, 65)
    seen = zoomed(ramp, factor)
    assert seen[0, 0, 32, 32].item() == pytest.approx(0.5, abs=1e-4)
    assert (seen[0, 0, 40, 20] - seen[0, 0, 30, 20]).item() * factor == pytest.approx((0.4 * (y[40] - y[30])).item(), abs=1e-3)


def test_resampling_details_does_not_clamp_them() -> None:
    assert resampled(torch.full((1, 3, 8, 8), -0.3), (16, 16)).max() < -0.29


def test_toned_pictures_have_the_colours_of_the_first(images: Tensor) -> None:
    first, later = 0.4 + 0.2 * images[:1], 0.5 + 0.5 * (images[1:] - 0.5)
    made = toned(later, first)
    torch.testing.assert_close(made.mean((2, 3)), first.mean((2, 3)), atol=1e-4, rtol=0)
    torch.testing.assert_close(made.std((2, 3)), first.std((2, 3)), atol=1e-4, rtol=0)
    assert toned(torch.full_like(later, 0.5), first).isfinite().all()
