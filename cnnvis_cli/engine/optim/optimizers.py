"""How the loop steps: plain, normalized, unit and sign steps beside torch's optimizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Update = Literal["adam", "lbfgs", "gradient", "normalized", "sign", "unit"]


class Ascent(torch.optim.Optimizer):
    """x + rate * d, with d the gradient (`gradient`), the gradient over its mean magnitude per picture (`normalized`, deep
    dream), over its length (`unit`) or its sign (`sign`). With momentum, gradients are first gathered over their mean
    magnitude (Dong et al. 2018)."""

    def __init__(self, parameters: Sequence[Tensor], rate: float, kind: Update, momentum: float = 0.0) -> None:
        super().__init__(parameters, {"lr": rate, "kind": kind, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        for group in self.param_groups:
            for parameter in group["params"]:
                direction = -parameter.grad
                if group["kind"] == "normalized" or group["momentum"]:
                    direction = direction / mean_magnitude(direction)
                if group["momentum"]:
                    gathered = self.state[parameter].setdefault("gathered", torch.zeros_like(direction))
                    direction = gathered.mul_(group["momentum"]).add_(direction)
                if group["kind"] == "sign":
                    direction = direction.sign()
                elif group["kind"] == "unit":
                    direction = torch.nn.functional.normalize(direction.flatten(1)).view_as(direction)
                parameter.add_(direction, alpha=group["lr"])
        return loss


def mean_magnitude(gradient: Tensor) -> Tensor:
    """(B, 1, ...) mean absolute value per picture, never zero."""
    return gradient.abs().flatten(1).mean(1).clamp_min(1e-12).view(-1, *[1] * (gradient.ndim - 1))


def resampled(optimizer: dict[str, Any], parameters: Sequence[Tensor]) -> dict[str, Any]:
    """Adam's state for pictures of another size; second moments stay positive."""
    state = {}
    for number, old in optimizer["state"].items():
        size = parameters[number].shape[-2:]
        first = F.interpolate(old["exp_avg"], size, mode="bicubic", align_corners=False)
        second = F.interpolate(old["exp_avg_sq"], size, mode="bilinear", align_corners=False)
        state[number] = {"step": old["step"], "exp_avg": first, "exp_avg_sq": second}
    return {"state": state, "param_groups": optimizer["param_groups"]}
