"""Normalization with a scale and a shift per style: what makes one network paint in many styles (Dumoulin et al. 2017).

Instance normalization (Ulyanov et al. 2017) takes its statistics of each picture alone, so that a batch is a number of single
pictures and there is no difference between training and use. Batch normalization is there to be compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["instance", "batch", "none"]
Moments = tuple[Tensor, Tensor]
# Of the mean variance of all channels: a channel that is flat stays flat, where a fixed small number would blow up its
# rounding errors into blobs. The fixed one is for maps that are flat altogether.
_RELATIVE, _ABSOLUTE = 1e-3, 1e-6
_MOMENTUM = 0.1


def moments(maps: Tensor) -> Moments:
    """(B, C) mean and variance over the places of maps (B, C, H, W)."""
    variance, mean = torch.var_mean(maps, (2, 3), correction=0)
    return mean, variance


def deviation(variance: Tensor) -> Tensor:
    """(B, C) what to divide by."""
    floor = _RELATIVE * variance.mean(1, keepdim=True) + _ABSOLUTE
    return (variance + floor).sqrt()


def normalized(maps: Tensor) -> Tensor:
    """Maps (B, C, H, W), each channel of each picture without its mean and in units of its deviation."""
    mean, variance = moments(maps)
    return (maps - mean[:, :, None, None]) / deviation(variance)[:, :, None, None]


class Held:
    """Statistics of the pictures before: for films, whose frames would flicker with statistics of their own.

    Each layer's mean and variance become `keep` times those held plus the rest of the frame's own.
    """

    def __init__(self, keep: float) -> None:
        self.keep = keep
        self._known: dict[int, Moments] = {}

    def mixed(self, layer: nn.Module, new: Moments) -> Moments:
        if id(layer) in self._known:
            new = tuple(old.lerp(now, 1 - self.keep) for old, now in zip(self._known[id(layer)], new, strict=True))  # type: ignore[assignment]
        self._known[id(layer)] = new
        return new

    def forget(self) -> None:
        """Begin anew: at a cut."""
        self._known.clear()


class ConditionalNorm(nn.Module):
    """Maps (B, C, H, W) normalized, times a scale and plus a shift that are mixed from those of the styles by shares (B, S)."""

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, styles: int, kind: Norm = "instance") -> None:
        super().__init__()
        self.kind = kind
        self.scale = nn.Parameter(torch.ones(styles, channels))
        self.shift = nn.Parameter(torch.zeros(styles, channels))
        self.held: Held | None = None
        if kind == "batch":
            self.register_buffer("mean", torch.zeros(1, channels))
            self.register_buffer("variance", torch.ones(1, channels))

    def moments(self, maps: Tensor) -> Moments | None:
        """What the maps are normalized with; None for `none`."""
        if self.kind == "none":
            return None
        if self.kind == "instance":
            found = moments(maps)
            return found if self.held is None else self.held.mixed(self, found)
        if not self.training:
            return self.mean, self.variance
        variance, mean = torch.var_mean(maps, (0, 2, 3), correction=0)
        with torch.no_grad():
            self.mean.lerp_(mean[None], _MOMENTUM)
            self.variance.lerp_(variance[None], _MOMENTUM)
        return mean[None], variance[None]

    def factors(self, found: Moments | None, shares: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, 1, 1) what to multiply the maps with, and what to add."""
        scale, shift = shares @ self.scale, shares @ self.shift
        if found is not None:
            mean, variance = found
            scale = scale / deviation(variance)
            shift = shift - mean * scale
        return scale[:, :, None, None], shift[:, :, None, None]

    def forward(self, maps: Tensor, shares: Tensor) -> Tensor:
        scale, shift = self.factors(self.moments(maps), shares)
        if torch.is_grad_enabled():
            return maps * scale + shift
        return maps.mul_(scale).add_(shift)  # the maps are the convolution's own: nobody else reads them


@contextmanager
def holding(network: nn.Module, held: Held) -> Iterator[None]:
    """Instance normalizations of the network share statistics with the pictures before, for the length of the block."""
    layers = [layer for layer in network.modules() if isinstance(layer, ConditionalNorm)]
    for layer in layers:
        layer.held = held
    try:
        yield
    finally:
        for layer in layers:
            layer.held = None
