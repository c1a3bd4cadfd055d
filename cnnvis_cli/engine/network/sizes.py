"""Which sizes of pictures a network takes: any, multiples of a number, or one only. Found by trial, whatever it raises.

Trials run on tensors without values (PyTorch's meta device), which cost next to nothing; with values where a module cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cnnvis_cli.engine.network.shapes import ShapesAlone

# Pitches that are tried, in pixels, and the sides from which the smallest is sought.
_PITCHES = (1, 2, 4, 7, 8, 14, 16, 32, 48, 64)

Takes = Callable[[int, int], bool]


@dataclass(frozen=True)
class Sizes:
    """`own`: the side it was trained on. `multiple`: sides must be multiples of it (1: any); 0: `own` is the only one.
    `smallest`: the least side. `square`: whether height and width must be equal."""

    own: int
    multiple: int = 1
    smallest: int = 1
    square: bool = False

    @property
    def fixed(self) -> bool:
        return self.multiple == 0

    def takes(self, height: int, width: int) -> bool:
        if self.fixed:
            return height == width == self.own
        fits = all(side >= self.smallest and side % self.multiple == 0 for side in (height, width))
        return fits and (height == width or not self.square)

    def describe(self) -> str:
        """`any size from 32 px`, `multiples of 32 from 64 px`, `32 px only`."""
        if self.fixed:
            return f"{self.own} px only"
        what = "any size" if self.multiple == 1 else f"multiples of {self.multiple}"
        return f"{what} from {self.smallest} px{', squares only' if self.square else ''}"


class Trials:
    """Asks whether a module takes pictures of a size, on copies of its tensors without values."""

    def __init__(self, module: nn.Module, channels: int, own: int, device: torch.device | str = "cpu") -> None:
        self.module, self.channels, self.device = module, channels, device
        self._state = {name: t.to("meta") for name, t in [*module.named_parameters(), *module.named_buffers()]}
        self._without_values = self._runs_without_values(own, own)

    def __call__(self, height: int, width: int) -> bool:
        if self._without_values:
            return self._runs_without_values(height, width)
        picture = torch.zeros(1, self.channels, height, width, device=self.device)
        return _runs(lambda: self.module(picture))

    def _runs_without_values(self, height: int, width: int) -> bool:
        picture = torch.empty(1, self.channels, height, width, device="meta")
        with ShapesAlone():
            return _runs(lambda: functional_call(self.module, self._state, (picture,)))


@torch.no_grad()
def _runs(call: Callable[[], Any]) -> bool:
    try:
        call()
    except torch.OutOfMemoryError:
        raise
    except Exception:  # a size is refused in as many ways as there are networks
        return False
    return True


def find_sizes(takes: Takes, own: int) -> Sizes:
    """The sizes that a network which takes `own` px takes. `takes(height, width)`: a trial."""
    for pitch in _PITCHES:
        if own % pitch == 0 or pitch == 1:
            # Near and far: a linear layer on the maps takes a few sizes around its own, whose rest the pools drop.
            near, far = (takes(side + pitch, side + 2 * pitch) for side in (own, 2 * own))
            square = not (near and far)
            if not square or (pitch in (1, 32) and takes(own + pitch, own + pitch) and takes(2 * own, 2 * own)):
                return Sizes(own, pitch, _smallest(takes, own, pitch), square)
    return Sizes(own, 0, own, True)


def _smallest(takes: Takes, own: int, pitch: int) -> int:
    """The least multiple of `pitch` that is taken: halving while that goes, then between the last two."""
    low, high = 0, own // pitch
    side = high
    while side > 1 and takes(pitch * (side // 2), pitch * (side // 2)):
        side //= 2
    high = side
    low = side // 2 if side > 1 else 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if takes(pitch * middle, pitch * middle) else (middle, high)
    return pitch * high


def typical_sizes() -> tuple[int, ...]:
    """Sides that networks are usually made for, the commonest first."""
    return 224, 32, 28, 64, 96, 128, 256, 299, 384, 112, 48, 40, 160, 192, 227, 288, 320, 512, 16, 8, 14, 20


def example(channels: int, side: int, batch: int = 1, seed: int = 0) -> Tensor:
    """(B, C, S, S) normalized noise; the second picture of a batch is a smooth ramp."""
    pictures = torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(seed))
    if batch > 1:
        pictures[1] = torch.linspace(-1, 1, side).view(1, side, 1).expand(channels, side, side)
    return pictures
