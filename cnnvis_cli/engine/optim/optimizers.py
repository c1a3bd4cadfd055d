"""How the loop steps: Adam, L-BFGS, plain, normalized, unit and sign steps.

torch.optim's classes import PyTorch's compiler, which takes longer than importing torch. All but L-BFGS are therefore written
here, Adam to the very bits of torch's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Update = Literal["adam", "lbfgs", "gradient", "normalized", "sign", "unit"]
Closure = Callable[[], Tensor]


class Optimizer(Protocol):
    """What the loop needs of torch's optimizers and of those here."""

    param_groups: list[dict[str, Any]]

    def zero_grad(self) -> None: ...

    def step(self, closure: Closure) -> Any: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


class _Stepping:
    """Parameters with a state of tensors each, kept in the form of torch's optimizers."""

    def __init__(self, parameters: Sequence[Tensor], rate: float) -> None:
        self.parameters = list(parameters)
        self.param_groups: list[dict[str, Any]] = [{"params": self.parameters, "lr": rate}]
        self.state: list[dict[str, Tensor]] = [{} for _ in self.parameters]

    @property
    def rate(self) -> float:
        return self.param_groups[0]["lr"]

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {
            "state": {number: dict(state) for number, state in enumerate(self.state) if state},
            "param_groups": [{"lr": self.rate, "params": list(range(len(self.parameters)))}],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.param_groups[0]["lr"] = state_dict["param_groups"][0]["lr"]
        for number, parameter in enumerate(self.parameters):
            saved = state_dict["state"].get(number, {})
            self.state[number] = {
                key: value.clone() if key == "step" else value.to(parameter).clone() for key, value in saved.items()
            }


class Adam(_Stepping):
    """Kingma and Ba 2015, in one kernel where there is one: the bits of torch.optim.Adam(fused=True)."""

    def __init__(self, parameters: Sequence[Tensor], rate: float, betas: tuple[float, float], epsilon: float = 1e-8) -> None:
        super().__init__(parameters, rate)
        self.betas, self.epsilon = betas, epsilon

    @torch.no_grad()
    def step(self, closure: Closure) -> Any:
        with torch.enable_grad():
            loss = closure()
        for parameter, state in zip(self.parameters, self.state, strict=True):
            if not state:
                fused = parameter.device.type in ("cpu", "cuda") and hasattr(torch, "_fused_adam_")
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device if fused else "cpu")
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            assert parameter.grad is not None
            self._move(parameter, parameter.grad, state)
        return loss

    def _move(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor]) -> None:
        first, second, count = state["exp_avg"], state["exp_avg_sq"], state["step"]
        count += 1
        (beta, gamma), rate = self.betas, self.rate
        if parameter.device.type in ("cpu", "cuda") and hasattr(torch, "_fused_adam_"):
            try:
                torch._fused_adam_(
                    [parameter], [gradient], [first], [second], [], [count],
                    lr=rate, beta1=beta, beta2=gamma, weight_decay=0.0, eps=self.epsilon, amsgrad=False, maximize=False,
                )  # fmt: skip
                return
            except (TypeError, NotImplementedError, RuntimeError):
                pass  # PyTorch's private kernel has changed: the plain formula below is the same but for rounding
        first.lerp_(gradient, 1 - beta)
        second.mul_(gamma).addcmul_(gradient, gradient, value=1 - gamma)
        steps = count.item()
        scale = (second.sqrt() / (1 - gamma**steps) ** 0.5).add_(self.epsilon)
        parameter.addcdiv_(first, scale, value=-rate / (1 - beta**steps))


class Ascent(_Stepping):
    """x + rate * d, with d the gradient (`gradient`), the gradient over its mean magnitude per picture (`normalized`, deep
    dream), over its length (`unit`) or its sign (`sign`). With momentum, gradients are first gathered over their mean
    magnitude (Dong et al. 2018)."""

    def __init__(self, parameters: Sequence[Tensor], rate: float, kind: Update, momentum: float = 0.0) -> None:
        super().__init__(parameters, rate)
        self.kind, self.momentum = kind, momentum

    @torch.no_grad()
    def step(self, closure: Closure) -> Any:
        with torch.enable_grad():
            loss = closure()
        for parameter, state in zip(self.parameters, self.state, strict=True):
            assert parameter.grad is not None
            direction = -parameter.grad
            if self.kind == "normalized" or self.momentum:
                direction = direction / mean_magnitude(direction)
            if self.momentum:
                gathered = state.setdefault("gathered", torch.zeros_like(direction))
                direction = gathered.mul_(self.momentum).add_(direction)
            if self.kind == "sign":
                direction = direction.sign()
            elif self.kind == "unit":
                direction = F.normalize(direction.flatten(1)).view_as(direction)
            parameter.add_(direction, alpha=self.rate)
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
