"""Our Adam takes torch's steps to the bit, also when it goes on from a state, and without the one kernel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cnnvis_cli.engine.optim.optimizers import Adam


def gradients(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 8, 9, generator=generator) for _ in range(count)]


def run(optimizer: object, parameter: Tensor, slopes: list[Tensor]) -> None:
    for slope in slopes:

        def closure(slope: Tensor = slope) -> Tensor:
            parameter.grad = slope.clone()
            return slope.sum()

        optimizer.step(closure)  # type: ignore[attr-defined]


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.9, 0.99)])
def test_adam_is_torchs(betas: tuple[float, float]) -> None:
    slopes = gradients(20)
    theirs, ours = (torch.zeros(2, 3, 8, 9, requires_grad=True) for _ in range(2))
    run(torch.optim.Adam([theirs], lr=0.05, betas=betas, fused=True), theirs, slopes)
    first = Adam([ours], 0.05, betas)
    run(first, ours, slopes[:7])
    second = Adam([ours], 0.05, betas)
    second.load_state_dict(first.state_dict())
    run(second, ours, slopes[7:])
    assert torch.equal(ours, theirs)


def test_without_the_kernel_it_is_the_same_but_for_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    slopes = gradients(20)
    theirs, ours = (torch.zeros(2, 3, 8, 9, requires_grad=True) for _ in range(2))
    run(torch.optim.Adam([theirs], lr=0.05, fused=False), theirs, slopes)
    monkeypatch.delattr(torch, "_fused_adam_")
    run(Adam([ours], 0.05, (0.9, 0.999)), ours, slopes)
    torch.testing.assert_close(ours, theirs)
