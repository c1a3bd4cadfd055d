"""The network of pytorch/examples' fast_neural_style, so that its weights can be used: Johnson's, with nearest upsampling.

Written anew from the published shapes; the names of the parts are those of its files.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class _Mirrored(nn.Module):
    """Mirror the border, perhaps enlarge before, convolve."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1, enlarge: int = 1) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(inputs, outputs, side, stride)
        self.enlarge = enlarge

    def forward(self, maps: Tensor) -> Tensor:
        if self.enlarge > 1:
            maps = F.interpolate(maps, scale_factor=float(self.enlarge), mode="nearest")
        reach = self.conv2d.kernel_size[0] // 2
        return self.conv2d(F.pad(maps, (reach,) * 4, mode="reflect"))


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _Mirrored(channels, channels, 3), _Mirrored(channels, channels, 3)
        self.in1, self.in2 = (nn.InstanceNorm2d(channels, affine=True) for _ in range(2))

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.in2(self.conv2(F.relu(self.in1(self.conv1(maps)))))


class FastNeuralStyle(nn.Module):
    """Pictures (B, 3, H, W) in [0, 1] to pictures in [0, 1]; inside, values are 0 to 255. One style: shares are not read.

    The size is rounded up to a multiple of 4 by the network; the result is cut to the picture's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.in1 = _Mirrored(3, 32, 9), nn.InstanceNorm2d(32, affine=True)
        self.conv2, self.in2 = _Mirrored(32, 64, 3, 2), nn.InstanceNorm2d(64, affine=True)
        self.conv3, self.in3 = _Mirrored(64, 128, 3, 2), nn.InstanceNorm2d(128, affine=True)
        for number in range(1, 6):
            setattr(self, f"res{number}", _Block(128))
        self.deconv1, self.in4 = _Mirrored(128, 64, 3, enlarge=2), nn.InstanceNorm2d(64, affine=True)
        self.deconv2, self.in5 = _Mirrored(64, 32, 3, enlarge=2), nn.InstanceNorm2d(32, affine=True)
        self.deconv3 = _Mirrored(32, 3, 9)

    def forward(self, pictures: Tensor, shares: Tensor | None = None) -> Tensor:
        height, width = pictures.shape[-2:]
        maps = pictures * 255
        for number in range(1, 4):
            maps = F.relu(getattr(self, f"in{number}")(getattr(self, f"conv{number}")(maps)))
        for number in range(1, 6):
            maps = getattr(self, f"res{number}")(maps)
        maps = F.relu(self.in4(self.deconv1(maps)))
        maps = F.relu(self.in5(self.deconv2(maps)))
        return (self.deconv3(maps) / 255).clamp(0, 1)[..., :height, :width]
