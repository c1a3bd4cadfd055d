"""Attacks that choose each step by what the steps before brought: the loop asks them where to go."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from cnnvis_cli.engine.optim.evaluate import ValueGradient
from cnnvis_cli.engine.optim.loop import Loop
from cnnvis_cli.engine.optim.parameterizations import Parameterization


class Stepping(ABC):
    """A rule that moves pictures (B, 3, H, W) from what an objective and its gradient are where they stand.

    It stands between the objective and the loop: `loop` sees to it that a plain step of rate 1 is the rule's.
    """

    @abstractmethod
    def step(self, index: Tensor, pictures: Tensor, values: Tensor, gradient: Tensor) -> Tensor:
        """How far the pictures (b, 3, H, W) at these places (b,) are to move; `values` (b,) and `gradient` are theirs."""

    def loop(self, image: Parameterization, evaluate: ValueGradient, steps: int, done: object) -> Loop:
        seen: list[tuple[Tensor, Tensor, Tensor]] = []

        def watched(pictures: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
            values, gradient = evaluate(pictures, index)
            seen[:] = [(index, pictures, values)]
            return values, gradient

        def moves(gradient: Tensor) -> Tensor:
            index, pictures, values = seen[0]
            rows = index.to(gradient.device)
            step = self.step(index, pictures, values, gradient[rows])
            return torch.zeros_like(gradient).index_copy_(0, rows, step)

        return Loop(image, watched, steps, "gradient", 1.0, gradient=moves, done=done)  # type: ignore[arg-type]
