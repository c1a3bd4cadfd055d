"""The networks that travel with cnnvis, as plain modules: `minivgg` (and its robust twin) for natural pictures, `lenet` for
digits.

Both are `nn.Sequential`s whose children carry the names of the VGG paper (`conv1_1 relu1_1 ... pool5`), so that a layer is
named as readers know it. BatchNorm exists only while they are trained (`assets/train_*.py`) and is folded at export.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

# Convolution widths per block; a pool follows every block. 96 px in, 3 x 3 out.
MINIVGG_BLOCKS = ((32, 32), (64, 64), (128, 128), (256, 256), (384, 512))


def minivgg(classes: int = 111, *, batchnorm: bool = False) -> nn.Sequential:
    """A small VGG: five blocks of two 3x3 convolutions, global average, one linear layer.

    Takes normalized pictures (B, 3, H, W), H and W at least 32; gives logits (B, classes).
    `batchnorm=True` is the form that is trained.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for block, widths in enumerate(MINIVGG_BLOCKS, start=1):
        for index, width in enumerate(widths, start=1):
            name = f"{block}_{index}"
            layers[f"conv{name}"] = nn.Conv2d(channels, width, 3, padding=1, bias=not batchnorm)
            if batchnorm:
                layers[f"bn{name}"] = nn.BatchNorm2d(width)
            layers[f"relu{name}"] = nn.ReLU()
            channels = width
        layers[f"pool{block}"] = nn.MaxPool2d(2)
    layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels, classes)
    return nn.Sequential(layers)


def lenet(classes: int = 10, *, batchnorm: bool = False) -> nn.Sequential:
    """LeNet's shape with rectifiers and max pools. Takes (B, 1, 28, 28); gives logits (B, classes)."""

    def norm(name: str, width: int) -> list[tuple[str, nn.Module]]:
        return [(name, nn.BatchNorm2d(width))] if batchnorm else []

    return nn.Sequential(
        OrderedDict(
            [
                ("conv1", nn.Conv2d(1, 16, 5, padding=2, bias=not batchnorm)),
                *norm("bn1", 16),
                ("relu1", nn.ReLU()),
                ("pool1", nn.MaxPool2d(2)),
                ("conv2", nn.Conv2d(16, 32, 5, bias=not batchnorm)),
                *norm("bn2", 32),
                ("relu2", nn.ReLU()),
                ("pool2", nn.MaxPool2d(2)),
                ("flatten", nn.Flatten()),
                ("fc1", nn.Linear(800, 120)),
                ("relu3", nn.ReLU()),
                ("fc2", nn.Linear(120, 84)),
                ("relu4", nn.ReLU()),
                ("fc3", nn.Linear(84, classes)),
            ]
        )
    )
