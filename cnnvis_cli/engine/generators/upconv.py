"""Maps twice as large and with other channels: four ways, and how evenly each covers a map."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Upsample = Literal["nearest", "bilinear", "transposed", "shuffle"]


def convolution(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that sees its own map mirrored beyond the border: zeros would draw a frame."""
    return nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, padding_mode="reflect")


class UpConv(nn.Module):
    """(B, inputs, H, W) to (B, outputs, 2H, 2W).

    `nearest`, `bilinear`: enlarge, then convolve (Odena et al. 2016, against checkerboards). `transposed`: the transposed
    convolution of 3 x 3 whose windows overlap unevenly, and so draws them. `shuffle`: four times the channels, one for each
    of the four new places (Shi et al. 2016), the same for all four at the start (ICNR, Aitken et al. 2017).
    """

    def __init__(self, inputs: int, outputs: int, kind: Upsample = "nearest") -> None:
        super().__init__()
        self.kind = kind
        self.convolution: nn.Module
        if kind == "transposed":
            self.convolution = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
        elif kind == "shuffle":
            self.convolution = convolution(inputs, 4 * outputs, 3)
            alike_for_all_places(self.convolution)
        else:
            self.convolution = convolution(inputs, outputs, 3)

    def forward(self, maps: Tensor) -> Tensor:
        if self.kind in ("nearest", "bilinear"):
            corners = {} if self.kind == "nearest" else {"align_corners": False}
            maps = nn.functional.interpolate(maps, scale_factor=2.0, mode=self.kind, **corners)
        made = self.convolution(maps)
        return nn.functional.pixel_shuffle(made, 2) if self.kind == "shuffle" else made


@torch.no_grad()
def alike_for_all_places(layer: nn.Conv2d) -> None:
    """ICNR: the four channels that become one channel's four places start alike."""
    layer.weight.copy_(layer.weight[::4].repeat_interleave(4, 0))
    if layer.bias is not None:
        layer.bias.copy_(layer.bias[::4].repeat_interleave(4, 0))


def untrained(kind: Upsample, channels: int = 32, seed: int = 0) -> UpConv:
    """A layer with random weights, the same at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UpConv(2 * channels, channels, kind)


@torch.no_grad()
def answer_to_flat(layer: UpConv) -> Tensor:
    """What a layer makes, (1, outputs, 24, 24), of a map that is the same everywhere, away from the border."""
    weight = next(layer.parameters())
    inputs = weight.shape[0 if layer.kind == "transposed" else 1]
    return layer(torch.ones(1, inputs, 16, 16, device=weight.device))[..., 4:-4, 4:-4]


def ripple(layer: UpConv) -> float:
    """How unevenly a layer answers a map that is the same everywhere: the deviation over places by the mean size of the answer
    (Odena et al. 2016). 0: no checkerboard of its own."""
    made = answer_to_flat(layer)
    return (made.std((2, 3)).mean() / made.abs().mean().clamp_min(1e-12)).item()


def most_uneven(module: nn.Module) -> UpConv | None:
    """The layer of a module that ripples most."""
    layers = [layer for layer in module.modules() if isinstance(layer, UpConv)]
    return max(layers, key=ripple, default=None)
