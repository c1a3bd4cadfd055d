"""Networks of the tests' own."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from cnnvis_cli.engine.network.network import Network

NAMES = ("resnet18", "vgg16", "squeezenet1_0")


def random_module(name: str) -> nn.Module:
    """A torchvision architecture whose random weights keep the activations' scale, so that no comparison is one of zeros."""
    torch.manual_seed(0)
    options = {"init_weights": False} if name in ("vgg16", "googlenet") else {}
    module = torchvision.models.get_model(name, weights=None, **options)
    if name == "vgg16":
        module.classifier = nn.Linear(512 * 7 * 7, 10)  # the head it has takes a second to make
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight, nonlinearity="relu")
        elif isinstance(child, nn.BatchNorm2d):
            nn.init.uniform_(child.running_mean, -0.2, 0.2)
            nn.init.uniform_(child.running_var, 0.7, 1.3)
    return module.eval()


class Normalized(nn.Module):
    """The module as captum needs it: fed with pictures in [0, 1]."""

    def __init__(self, module: nn.Module, network: Network):
        super().__init__()
        self.module, self.normalize = module, network.normalize

    def forward(self, images: Tensor) -> Tensor:
        return self.module(self.normalize(images))


class TwoLayers(nn.Module):
    def __init__(self, rectify: Callable[[Tensor], Tensor]):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)
        self.rectify = rectify

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.rectify(self.second(self.rectify(self.first(x)))).mean((2, 3)))


class Detector(nn.Module):
    """Answers with the share of the picture that is red."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.head = nn.Conv2d(3, 1, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(F.relu(self.conv(x))))
