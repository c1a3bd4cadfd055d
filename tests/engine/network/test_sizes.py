"""The sizes that a network takes are found by trial, whatever it raises, and pictures are fitted to them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnvis_cli.engine.attribution.gradients import gradient
from cnnvis_cli.engine.errors import SizeError
from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.network import Network, Preprocessing
from cnnvis_cli.engine.network.sizes import Sizes
from cnnvis_cli.engine.optim.objectives import class_logit


class Particular(nn.Module):
    """Refuses sizes in the way that `kind` says; four 2 x 2 pools."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.conv = kind, nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4 * 16 if kind == "linear" else 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        if self.kind == "multiple" and (height % 8 or width % 8):
            raise ValueError("not divisible")
        if self.kind == "square" and height != width:
            raise NotImplementedError
        if self.kind == "one":
            assert (height, width) == (64, 64), "wrong size"
        if self.kind == "looks":
            float(x.sum())  # what no run without values can answer
        x = self.conv(x)
        for _ in range(4):
            x = F.max_pool2d(x, 2)
        return self.head(x.flatten(1) if self.kind == "linear" else x.mean((2, 3)))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("any", "any size from 16 px"),
        ("looks", "any size from 16 px"),
        ("multiple", "multiples of 8 from 16 px"),
        ("square", "any size from 16 px, squares only"),
        ("one", "64 px only"),
        ("linear", "64 px only"),
    ],
)
def test_sizes_are_found(kind: str, said: str) -> None:
    network = Network.frozen(kind, Particular(kind), Preprocessing(size=64))
    assert network.sizes.describe() == said
    height, width = network.fitted(100, 171)
    assert network.sizes.takes(height, width)
    with torch.no_grad():
        assert network(torch.rand(1, 3, height, width)).shape == (1, 5)


def test_a_size_that_is_not_taken_is_told_by_whoever_asks(images: Tensor) -> None:
    network = Network.frozen("one", Particular("one"), Preprocessing(size=64))
    small = images[:, :, :40, :48]
    with pytest.raises(SizeError, match="takes 64 px only, not pictures of 48 x 40 px"):
        network(small)
    with pytest.raises(SizeError):
        activations(network, small, ["head"])
    with pytest.raises(SizeError, match="64 px only, not 40 px"):
        network.fitted(100, 100, 40)


@pytest.mark.parametrize(("height", "width"), [(96, 142), (333, 250), (97, 97)])
def test_no_band_of_the_picture_goes_unseen(height: int, width: int) -> None:
    """Pools drop the last rows of a side that is no multiple: their gradient would be zero."""
    network = Network.frozen("any", Particular("any"), Preprocessing(size=64))
    fitted = network.fitted(height, width)
    assert abs(fitted[1] / fitted[0] / (width / height) - 1) < 0.15
    slope = gradient(network, torch.rand(1, 3, *fitted), class_logit(network, 1)).abs().sum((0, 1))
    last = slope[-16:].any(), slope[:, -16:].any()
    assert all(last)
    cut = gradient(network, torch.rand(1, 3, 64, 79), class_logit(network, 1)).abs().sum((0, 1))
    assert not cut[:, 66:].any(), "which is what would happen"


def test_what_sizes_say() -> None:
    assert Sizes(224, 32, 64).takes(96, 128)
    assert not Sizes(224, 32, 64).takes(32, 128)
    assert not Sizes(224, 32, 64).takes(96, 100)
    assert not Sizes(224, 1, 1, square=True).takes(96, 100)
    assert Sizes(28, 0, 28, square=True).takes(28, 28)
