"""Silent rectifiers pass a gradient for the first steps, at both of their ends, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.evaluate import value_gradient
from cnnvis_cli.engine.optim.loop import Loop, synthesize
from cnnvis_cli.engine.optim.objectives import channel
from cnnvis_cli.engine.optim.parameterizations import Pixels
from cnnvis_cli.engine.optim.rectifiers import PassingRectifiers

LOW: list[Callable[[Tensor], Tensor]] = [
    torch.relu, F.relu6, F.hardtanh, F.hardsigmoid, F.hardswish, lambda x: x.clamp(min=0), lambda x: x.clamp(0, 6),
    lambda x: F.threshold(x, 0.0, 0.0), lambda x: F.relu(x, inplace=True),
]  # fmt: skip


@pytest.mark.parametrize("rectify", LOW)
def test_a_silent_one_passes_what_would_raise_it(rectify: Callable[[Tensor], Tensor]) -> None:
    x = torch.full((2, 3), -9.0, requires_grad=True)
    weights = torch.tensor([[1.0, -1.0, 2.0]])
    with PassingRectifiers():
        y = rectify(x * 1)
    (gradient,) = torch.autograd.grad((y * weights).sum(), x)
    assert gradient.tolist() == [[1, 0, 2]] * 2


@pytest.mark.parametrize("rectify", [F.relu6, F.hardtanh, F.hardsigmoid, lambda x: x.clamp(0, 6), lambda x: x.clamp(max=1)])
def test_a_saturated_one_passes_what_would_lower_it(rectify: Callable[[Tensor], Tensor]) -> None:
    x = torch.full((1, 3), 9.0, requires_grad=True)
    with PassingRectifiers():
        y = rectify(x)
    (gradient,) = torch.autograd.grad((y * torch.tensor([1.0, -1.0, 2.0])).sum(), x)
    assert gradient.tolist() == [[0, -1, 0]]


@pytest.mark.parametrize("rectify", LOW)
def test_one_that_is_awake_anywhere_is_left_alone(rectify: Callable[[Tensor], Tensor]) -> None:
    """Picture by picture: the second one is silent, the first is not."""
    values = torch.tensor([[0.5, -9.0, -9.0], [-9.0, -9.0, -9.0]])
    plain, passing = values.clone().requires_grad_(), values.clone().requires_grad_()
    (expected,) = torch.autograd.grad(rectify(plain * 1).sum(), plain)
    with PassingRectifiers():
        y = rectify(passing * 1)
    torch.testing.assert_close(y, rectify(values.clone()))
    (gradient,) = torch.autograd.grad(y.sum(), passing)
    torch.testing.assert_close(gradient[0], expected[0])
    assert gradient[1].tolist() == [1, 1, 1]


@pytest.mark.parametrize("start", [-10.0, 20.0])
def test_the_loop_wakes_a_unit_that_is_silent_or_saturated(start: float) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.ReLU6())
    with torch.no_grad():
        module[0].weight.fill_(0.5)
        module[0].bias.fill_(start)
    network = Network.frozen("silent", module, channels_last=False)
    objective = channel("1", 0) if start < 0 else -1 * channel("1", 0)
    picture = torch.full((1, 3, 8, 8), 0.5)

    def run(passing: int) -> float:
        loop = Loop(Pixels(picture.clone()), value_gradient(network, objective), 6, rate=0.1, passing=passing)
        return synthesize(loop).trace[-1].item()

    assert run(0) == (0 if start < 0 else -6)
    assert run(6) > run(0)
