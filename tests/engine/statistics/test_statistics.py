"""Distances of statistics: closed forms, SciPy's matrix square root, gradients against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from cnnvis_cli.engine.statistics import STATISTICS, Gram, Sliced, Statistic, Wasserstein, add, quantiles, smoothed
from cnnvis_cli.engine.statistics.wasserstein import trace_sqrt


def maps(channels: int, side: int, seed: int) -> Tensor:
    """Correlated, rectified features (1, channels, side, side)."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(channels, channels, generator=generator)
    noise = torch.randn(1, channels, side, side, generator=generator)
    return torch.einsum("dc,bchw->bdhw", mix, noise).relu() / channels**0.5


def target(statistic: Statistic, features: Tensor) -> dict[str, Tensor]:
    return statistic.target([statistic.summary(features)], [1.0])


def by_sqrtm(x: Tensor, y: Tensor) -> float:
    """Gaussian Wasserstein-2 squared by SciPy, relative to the mean square of y."""
    a, b = (t[0].flatten(1).double().numpy() for t in (x, y))
    ca, cb = np.cov(a, bias=True), np.cov(b, bias=True)
    root = sqrtm(cb)
    cross = np.real(np.trace(sqrtm(root @ ca @ root)))
    squared = np.sum((a.mean(1) - b.mean(1)) ** 2) + np.trace(ca) + np.trace(cb) - 2 * cross
    return squared / np.mean(np.sum(b**2, 0))


def test_wasserstein_agrees_with_scipy() -> None:
    x, y = maps(12, 20, 0), maps(12, 24, 1)
    found = Wasserstein().between(x, target(Wasserstein(), y))
    assert found.item() == pytest.approx(by_sqrtm(x, y), rel=1e-4)


def test_wasserstein_of_scaled_features_in_closed_form() -> None:
    # For y = s x the optimal map is the scaling itself: E|x - s x|^2 / E|s x|^2 = ((1 - s) / s)^2.
    x = maps(8, 16, 0)
    found = Wasserstein().between(x, target(Wasserstein(), 2 * x))
    assert found.item() == pytest.approx(0.25, rel=1e-4)


@pytest.mark.parametrize("side", [3, 12])
def test_small_and_large_gram_give_the_same_distance_and_gradient(side: int) -> None:
    # 9 positions for 24 channels take the short way over positions; the summary takes the long way over channels.
    statistic, goal = Wasserstein(), target(Wasserstein(), maps(24, 12, 1))
    x = maps(24, side, 0).requires_grad_()
    short, long = statistic.between(x, goal), statistic.distance(statistic.summary(x), goal)
    assert short.item() == pytest.approx(long.item(), rel=1e-3)  # noise of float32 moments in the null space
    first, second = (torch.autograd.grad(value, x)[0] for value in (short, long))
    assert (first - second).norm() < 1e-3 * second.norm()


@pytest.mark.parametrize("name", ["gram", "wasserstein", "sliced"])
def test_gradient_against_finite_differences(name: str) -> None:
    statistic = STATISTICS[name]()
    goal = {key: value.double() for key, value in target(statistic, maps(4, 8, 1)).items()}
    x = maps(4, 8, 0).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda t: statistic.between(t, goal), x, eps=1e-5, atol=1e-4, rtol=1e-3)


def test_the_gradient_of_products_is_that_of_autograd_in_the_maps_memory_format() -> None:
    x = torch.cat([maps(6, 8, 0), maps(6, 8, 1)]).contiguous(memory_format=torch.channels_last).requires_grad_()
    slope = torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(2))  # not symmetric
    flat = x.flatten(2)
    (expected,) = torch.autograd.grad(flat @ flat.mT, x, slope)
    (found,) = torch.autograd.grad(Gram().summary(x)["second"], x, slope)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["gram", "wasserstein", "sliced"])
def test_zero_and_flat_at_the_target_and_relative_far_from_it(name: str) -> None:
    statistic, y = STATISTICS[name](), maps(8, 16, 0)
    goal = target(statistic, y)
    x = y.clone().requires_grad_()
    value = statistic.between(x, goal)
    (gradient,) = torch.autograd.grad(value, x)
    assert abs(value.item()) < 1e-4
    assert torch.isfinite(gradient).all()
    assert statistic.between(torch.zeros_like(y), goal).item() == pytest.approx(1.0, rel=1e-3)  # nothing at all is at 1
    scaled = statistic.between(10 * maps(8, 16, 1), target(statistic, 10 * y))
    assert scaled.item() == pytest.approx(statistic.between(maps(8, 16, 1), goal).item(), rel=1e-3)


@pytest.mark.parametrize("name", ["gram", "wasserstein", "sliced"])
def test_places_do_not_matter_and_memory_format_neither(name: str) -> None:
    statistic, x = STATISTICS[name](), maps(8, 16, 0)
    goal = target(statistic, maps(8, 12, 1))
    shuffled = x.flatten(2)[..., torch.randperm(256, generator=torch.Generator().manual_seed(0))].view_as(x)
    expected = statistic.between(x, goal)
    for other in (shuffled, x.contiguous(memory_format=torch.channels_last)):
        torch.testing.assert_close(statistic.between(other, goal), expected, rtol=1e-4, atol=1e-6)


def test_summaries_of_parts_add_up() -> None:
    statistic, x = Wasserstein(), maps(8, 16, 0)
    whole = statistic.summary(x)
    parts = add(statistic.summary(x[..., :5]), statistic.summary(x[..., 5:]))
    for key in whole:
        torch.testing.assert_close(parts[key], whole[key])


@pytest.mark.parametrize("name", ["gram", "wasserstein", "sliced"])
def test_weights_pick_the_positions(name: str) -> None:
    statistic, x = STATISTICS[name](), maps(6, 16, 0)
    goal = target(statistic, maps(6, 16, 1))
    weight = torch.zeros(16, 16)
    weight[:, :7] = 1
    torch.testing.assert_close(statistic.between(x, goal, weight), statistic.between(x[..., :7], goal), rtol=1e-4, atol=1e-6)


def test_several_styles_weigh_their_statistics() -> None:
    statistic, x, y = Gram(), maps(6, 16, 0), maps(6, 12, 1)
    both = statistic.target([statistic.summary(x), statistic.summary(y)], [0.25, 0.75])
    grams = [target(statistic, one)["gram"] for one in (x, y)]
    torch.testing.assert_close(both["gram"], 0.25 * grams[0] + 0.75 * grams[1])


def test_a_batch_is_as_its_pictures() -> None:
    x = torch.cat([maps(8, 16, 0), maps(8, 16, 1)])
    for statistic in (Gram(), Wasserstein(), Sliced()):
        goal = target(statistic, maps(8, 16, 2))
        single = torch.cat([statistic.between(one[None], goal) for one in x])
        torch.testing.assert_close(statistic.between(x, goal), single, rtol=1e-4, atol=1e-6)


def test_trace_of_the_root_survives_degeneracy_and_tells_of_nan() -> None:
    matrix = (4 * torch.eye(5)).expand(1, 5, 5).clone().requires_grad_()  # all eigenvalues equal
    value = trace_sqrt(matrix)
    (gradient,) = torch.autograd.grad(value, matrix)
    assert value.item() == pytest.approx(10, rel=1e-3)
    torch.testing.assert_close(gradient[0], 0.25 * torch.eye(5), atol=1e-4, rtol=1e-3)
    assert trace_sqrt(torch.full((1, 3, 3), torch.nan)).isnan().all()


def test_wasserstein_of_broken_features_is_nan_and_its_gradient_too() -> None:
    statistic, goal = Wasserstein(), target(Wasserstein(), maps(6, 8, 1))
    x = maps(6, 8, 0).fill_(torch.inf).requires_grad_()
    value = statistic.between(x, goal)
    assert value.isnan().all()
    assert torch.autograd.grad(value.sum(), x)[0].isnan().any()


def test_threads_are_as_before_after_eigenvalues_and_errors() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        trace_sqrt(torch.eye(4)[None])
        trace_sqrt(torch.full((1, 4, 4), torch.nan))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_sliced_sees_what_mean_and_covariance_do_not() -> None:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(1, 1, 64, 64, generator=generator)
    coin = torch.where(torch.rand(1, 1, 64, 64, generator=generator) < 0.5, -1.0, 1.0)
    coin = (coin - coin.mean()) / coin.std() * normal.std() + normal.mean()
    assert Wasserstein().between(coin, target(Wasserstein(), normal)).item() < 1e-4
    assert Sliced().between(coin, target(Sliced(), normal)).item() > 0.1


def test_quantiles_of_another_number_of_samples() -> None:
    line = torch.linspace(0, 1, 101).view(1, 1, -1)
    torch.testing.assert_close(quantiles(line, 51), torch.linspace(0, 1, 51).view(1, 1, -1), atol=0.01, rtol=0)


def test_smoothing_raises_the_entropy_of_peaked_maps() -> None:
    # One peak over near-zero values, as in residual networks (Wang et al. 2021, figure 4).
    peaked = 0.1 * maps(4, 8, 0)
    peaked[0, 0, 0, 0] = 3.0

    def entropy(x: Tensor) -> Tensor:
        p = x.flatten() / x.sum()
        return -(p * p.clamp_min(1e-12).log()).sum()

    assert entropy(smoothed(peaked)) > entropy(peaked)
    assert smoothed(peaked).mean().item() == pytest.approx(1.0, rel=1e-4)
