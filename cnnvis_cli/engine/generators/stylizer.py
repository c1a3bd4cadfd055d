"""A picture painted in one pass: Johnson et al. 2016, with Ulyanov's instance normalization and Dumoulin's many styles.

Half of Johnson's width, as with instance normalization nothing is lost by it, and a strided 5 x 5 at the beginning where
theirs is a 9 x 9 at full size. No shortcut from the picture to the result: it kept the palette and drew hatching on top.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnvis_cli.engine.generators.normalization import ConditionalNorm, Norm
from cnnvis_cli.engine.generators.upconv import UpConv, Upsample, convolution

_STRIDE = 4  # of the trunk; pictures are padded to a multiple of it


@dataclass(frozen=True)
class StylizerShape:
    """What a stylizer is built from: `styles` in number, `width` of its widest maps, residual `blocks`."""

    styles: int = 1
    width: int = 16
    blocks: int = 5
    upsample: Upsample = "bilinear"
    norm: Norm = "instance"


class Residual(nn.Module):
    """maps + what two convolutions make of them."""

    def __init__(self, channels: int, styles: int, norm: Norm) -> None:
        super().__init__()
        self.first, self.second = convolution(channels, channels, 3), convolution(channels, channels, 3)
        self.norm1, self.norm2 = (ConditionalNorm(channels, styles, norm) for _ in range(2))

    def forward(self, maps: Tensor, shares: Tensor) -> Tensor:
        inner = F.relu(self.norm1(self.first(maps), shares))
        return (
            self.norm2(self.second(inner), shares).add_(maps)
            if not torch.is_grad_enabled()
            else maps + self.norm2(self.second(inner), shares)
        )


class Stylizer(nn.Module):
    """Pictures (B, 3, H, W) in [0, 1] and shares of the styles (B, S) to pictures of the same size in [0, 1].

    Any size from 16 px on. Instance normalization takes the overall brightness and contrast out: two photographs that differ
    in exposure alone give one picture.
    """

    def __init__(self, shape: StylizerShape) -> None:
        super().__init__()
        self.shape, width = shape, shape.width

        def norm(channels: int) -> ConditionalNorm:
            return ConditionalNorm(channels, shape.styles, shape.norm)

        self.down1, self.norm1 = convolution(3, 2 * width, 5, 2), norm(2 * width)
        self.down2, self.norm2 = convolution(2 * width, 4 * width, 3, 2), norm(4 * width)
        self.trunk = nn.ModuleList(Residual(4 * width, shape.styles, shape.norm) for _ in range(shape.blocks))
        self.up1, self.norm3 = UpConv(4 * width, 2 * width, shape.upsample), norm(2 * width)
        self.up2, self.norm4 = UpConv(2 * width, width, shape.upsample), norm(width)
        self.last = convolution(width, 3, 5)

    def forward(self, pictures: Tensor, shares: Tensor) -> Tensor:
        height, width = pictures.shape[-2:]
        maps = self.halfway(pictures, shares)
        maps = F.relu(self.norm4(self.up2(maps), shares))
        return torch.sigmoid(self.last(maps))[..., :height, :width]

    def encode(self, pictures: Tensor, shares: Tensor) -> Tensor:
        """The code (B, 4 width, H/4, W/4): what comes out of the residual blocks."""
        below, right = -pictures.shape[2] % _STRIDE, -pictures.shape[3] % _STRIDE
        if below or right:
            pictures = F.pad(pictures, (0, right, 0, below), mode="reflect")
        maps = _relu(self.norm1(self.down1(pictures - 0.5), shares))
        maps = _relu(self.norm2(self.down2(maps), shares))
        for block in self.trunk:
            maps = block(maps, shares)
        return maps

    def decode(self, code: Tensor, shares: Tensor) -> Tensor:
        """A picture of a code, its sides multiples of four."""
        maps = _relu(self.norm3(self.up1(code), shares))
        maps = F.relu(self.norm4(self.up2(maps), shares))
        return torch.sigmoid(self.last(maps))

    def halfway(self, pictures: Tensor, shares: Tensor, up: Callable[[nn.Module, Tensor], Tensor] | None = None) -> Tensor:
        """The maps (B, 2 width, H/2, W/2) from which the last two convolutions make the picture. `up`: how to apply the first
        enlargement, where the memory is short."""
        maps = self.encode(pictures, shares)
        maps = self.up1(maps) if up is None else up(self.up1, maps)
        return _relu(self.norm3(maps, shares))

    def mixed(self, styles: Tensor) -> Tensor:
        """(B, S) shares of one style each, by number (B,)."""
        return F.one_hot(styles, self.shape.styles).float()


def _relu(maps: Tensor) -> Tensor:
    return F.relu(maps) if torch.is_grad_enabled() else F.relu_(maps)


def with_more_styles(stylizer: Stylizer, count: int) -> Stylizer:
    """The same network, ready to learn, with room for `count` styles; the new ones begin as the mean of those there are."""
    shape = stylizer.shape
    grown = Stylizer(StylizerShape(count, shape.width, shape.blocks, shape.upsample, shape.norm))
    state = stylizer.state_dict()
    for name, value in grown.state_dict().items():
        old = state[name]
        if old.shape != value.shape:
            state[name] = torch.cat([old, old.mean(0, keepdim=True).expand(count - len(old), -1)])
    grown.load_state_dict(state)
    return grown


def only_styles(stylizer: Stylizer) -> None:
    """Let nothing learn but scales and shifts. Those of a style with no share get no gradient, and stay as they are."""
    stylizer.requires_grad_(False)
    for layer in stylizer.modules():
        if isinstance(layer, ConditionalNorm):
            layer.scale.requires_grad_(True)
            layer.shift.requires_grad_(True)
