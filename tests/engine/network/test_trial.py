"""Everything that can go wrong with a network of somebody else's goes wrong at loading, in one line that says what."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from cnnvis_cli.engine.errors import Refused
from cnnvis_cli.engine.network.network import Network, Preprocessing


def trunk(channels: int = 3, classes: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(channels, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes))


class With(nn.Module):
    """A trunk with another forward."""

    def __init__(self, forward: Callable[[nn.Module, Tensor], Any], net: nn.Module | None = None) -> None:
        super().__init__()
        self.net, self.way = net or trunk(), forward

    def forward(self, x: Tensor) -> Any:
        return self.way(self.net, x)


class TwoInputs(With):
    def forward(self, x: Tensor, mask: Tensor, scale: float = 1.0) -> Any:
        return self.net(x) * mask * scale


def spoiled(value: float) -> nn.Module:
    net = trunk()
    net[4].weight.data[1, 2] = value
    return net


def without_gradient(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return net(x)


@pytest.mark.parametrize(
    ("module", "kind", "words"),
    [
        (lambda: TwoInputs(lambda net, x: x), "inputs", "mask"),
        (lambda: trunk(channels=4), "channels", "takes 4 channels; the pictures have 3"),
        (lambda: trunk(channels=1), "channels", "takes 1 channels"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 4)), "size", "takes 28 px"),
        (lambda: nn.Sequential(nn.LazyConv2d(6, 3), nn.Flatten(), nn.LazyLinear(4)), "lazy", "0.weight"),
        (lambda: torch.jit.script(trunk()), "scripted", "TorchScript"),
        (lambda: With(without_gradient), "gradients", "no gradient"),
        (lambda: With(lambda net, x: net(x).detach()), "gradients", "no gradient"),
        (lambda: With(lambda net, x: net[4](net[:4](x).detach())), "gradients", "no gradient"),
        (lambda: nn.Sequential(trunk(), nn.BatchNorm1d(4, track_running_stats=False)), "statistics", "BatchNorm1d 1"),
        (lambda: With(lambda net, x: net(x - x.mean(0))), "statistics", "other pictures"),
        (lambda: spoiled(float("nan")), "numbers", "1 of 24 values of its weights 4.weight"),
        (lambda: spoiled(float("inf")), "numbers", "no finite numbers"),
        (lambda: nn.Sequential(trunk(), nn.Linear(4, 2).to(torch.complex64)), "numbers", "complex"),
        (lambda: With(lambda net, x: 1 / 0), "failed", "ZeroDivisionError: division by zero (test_trial.py, line"),
        (lambda: With(lambda net, x: sys.exit("no licence")), "failed", "SystemExit: no licence"),
        (lambda: With(lambda net, x: net(x)[{}]), "failed", "test_trial.py"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_one_line_that_names_the_reason(module: Callable[[], nn.Module], kind: str, words: str) -> None:
    with pytest.raises(Refused) as caught:
        Network.frozen("theirs", module(), Preprocessing(size=24), copied=False)
    assert caught.value.kind == kind
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_computed_in_float32(dtype: torch.dtype, images: Tensor) -> None:
    network = Network.frozen("theirs", trunk().to(dtype), Preprocessing(size=24))
    assert network(images).dtype == torch.float32
    assert network.module[0].weight.dtype == torch.float32


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda net: torch.compile(net, backend="eager")])
def test_wrappers_are_looked_through(wrap: Callable[[nn.Module], nn.Module]) -> None:
    network = Network.frozen("theirs", wrap(trunk()), Preprocessing(size=24))
    assert list(network.layers) == ["0", "1", "2", "3", "4"]


def test_a_network_that_is_not_steady_is_known_by_it() -> None:
    assert not Network.frozen("theirs", With(lambda net, x: net(F.dropout(x, 0.5))), Preprocessing(size=24)).steady
    assert not Network.frozen("theirs", With(lambda net, x: net(x) + torch.rand(())), Preprocessing(size=24)).steady
    assert Network.frozen("theirs", With(lambda net, x: net(x)), Preprocessing(size=24)).steady
    assert Network.frozen("theirs", nn.Sequential(trunk(), nn.Dropout(0.5)), Preprocessing(size=24)).steady


def test_the_trial_leaves_the_random_numbers_of_the_process_alone() -> None:
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    Network.frozen("theirs", With(lambda net, x: net(F.dropout(x, 0.5)), pooled), Preprocessing(size=24))
    assert torch.equal(torch.rand(2), expected)


def test_views_of_maps_are_borne(images: Tensor) -> None:
    def flat(net: nn.Module, x: Tensor) -> Tensor:
        y = net[1](net[0](x))
        return y.view(y.size(0), -1)[:, :7]

    network = Network.frozen("theirs", With(flat), Preprocessing(size=24))
    assert network.memory_format == torch.contiguous_format
    assert network(images).shape == (2, 7)
    assert Network.frozen("theirs", trunk(), Preprocessing(size=24)).memory_format == torch.channels_last


class Standardized(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight / weight.std((1, 2, 3), keepdim=True), self.bias, padding=1)


class NormAct(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


WRAPS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: nn.Conv2d(3, 8, 3, padding=1),
    "weight_norm": lambda: parametrizations.weight_norm(nn.Conv2d(3, 8, 3, padding=1)),
    "old weight_norm": lambda: nn.utils.weight_norm(nn.Conv2d(3, 8, 3, padding=1)),
    "spectral_norm": lambda: parametrizations.spectral_norm(nn.Conv2d(3, 8, 3, padding=1)),
    "old spectral_norm": lambda: nn.utils.spectral_norm(nn.Conv2d(3, 8, 3, padding=1)),
    "pruned": lambda: prune.l1_unstructured(nn.Conv2d(3, 8, 3, padding=1), "weight", 0.5),
    "standardized": lambda: Standardized(3, 8, 3, padding=1),
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("norm", [nn.BatchNorm2d, NormAct])
@pytest.mark.filterwarnings("ignore")
def test_folding_takes_plain_weights_and_leaves_computed_ones(wrap: str, norm: type[nn.BatchNorm2d], images: Tensor) -> None:
    torch.manual_seed(0)
    body = nn.Sequential(WRAPS[wrap](), norm(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    with torch.no_grad():
        body[1].running_mean.uniform_(-1, 1)
        body[1].running_var.uniform_(0.5, 2)
        body[1].bias.uniform_(-1, 1)
        body.eval()
        expected = body((images - 0.5) / 0.5)
    network = Network.frozen("theirs", body, Preprocessing((0.5,) * 3, (0.5,) * 3, 24), copied=False)
    with torch.no_grad():
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)
    folded = isinstance(network.module[1], nn.Identity)
    assert folded == (wrap == "plain" and norm is nn.BatchNorm2d)


def test_folding_is_off_where_it_changes_the_answer(images: Tensor) -> None:
    """The convolution's weights are also read by a function, which no hook sees."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(self.norm(self.conv(x)), self.conv.weight).mean((2, 3))

    module = Tied().eval()
    module.norm.running_var.fill_(4.0)
    with torch.no_grad():
        expected = module((images - 0.5) / 0.5)
    network = Network.frozen("tied", module, Preprocessing((0.5,) * 3, (0.5,) * 3, 24))
    with torch.no_grad():
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)
