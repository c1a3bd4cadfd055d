"""The loss of style and texture: what it weighs, and where it looks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.modifications import padded
from cnnvis_cli.engine.network.network import Network, Preprocessing
from cnnvis_cli.engine.statistics import Wasserstein
from cnnvis_cli.engine.synthesis.style import (
    Region,
    StyleLoss,
    content_features,
    other_layers,
    shares,
    style_layers,
    summarize,
    wraps,
)
from cnnvis_cli.networks.bundled import minivgg

STYLE = ("relu1_1", "relu2_1")


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network.frozen("minivgg", minivgg(5))


def picture(seed: int, height: int = 64, width: int = 64) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def region(network: Network, style: Tensor, mask: Tensor | None = None, share: float = 1.0) -> Region:
    statistic = Wasserstein()
    found = summarize(network, style, statistic, STYLE)
    return Region({layer: statistic.target([one], [1.0]) for layer, one in found.items()}, share, mask)


def test_strength_goes_from_content_to_style(network: Network) -> None:
    content, style = picture(0), 0.3 * picture(1)
    regions, code = [region(network, style)], content_features(network, content, ["relu3_1"])
    acts = activations(network, content, [*STYLE, "relu3_1"])

    def loss(strength: float) -> float:
        return StyleLoss(Wasserstein(), regions, dict.fromkeys(STYLE, 1.0), {"relu3_1": 1.0}, code, strength).value(acts).item()

    assert loss(0.0) == pytest.approx(0, abs=1e-6)  # the content is at no distance from itself
    assert loss(1.0) > 0.01
    assert loss(0.5) == pytest.approx(loss(1.0) / 2, rel=1e-4)


def test_weights_count_by_their_shares(network: Network) -> None:
    regions = [region(network, 0.3 * picture(1))]
    acts = activations(network, picture(0), STYLE)

    def loss(*weights: float) -> float:
        return StyleLoss(Wasserstein(), regions, dict(zip(STYLE, weights, strict=True))).value(acts).item()

    assert loss(2, 2) == pytest.approx(loss(1, 1))
    assert loss(3, 1) == pytest.approx(0.75 * loss(1, 0) + 0.25 * loss(0, 1), rel=1e-5)


def test_a_mask_keeps_a_style_to_its_region(network: Network) -> None:
    left, right = torch.zeros(64, 64), torch.zeros(64, 64)
    left[:, :32], right[:, 32:] = 1, 1
    loss = StyleLoss(Wasserstein(), [region(network, 0.3 * picture(1), left)], dict.fromkeys(STYLE, 1.0))
    leaf = picture(0).requires_grad_()
    (gradient,) = torch.autograd.grad(loss.value(activations(network, leaf, STYLE)).sum(), leaf)
    reach = 5  # how far relu2_1 sees beyond its square
    assert gradient[..., :32].abs().max() > 0
    assert gradient[..., 32 + reach :].abs().max() == 0


def test_the_style_picture_is_its_own_style_at_any_place(network: Network) -> None:
    style = picture(1)
    loss = StyleLoss(Wasserstein(), [region(network, style)], dict.fromkeys(STYLE, 1.0))
    assert loss.value(activations(network, style, STYLE)).item() == pytest.approx(0, abs=1e-4)


def test_a_batch_of_pictures_has_a_value_each(network: Network) -> None:
    loss = StyleLoss(Wasserstein(), [region(network, picture(1))], dict.fromkeys(STYLE, 1.0))
    both = torch.cat([picture(0), 0.5 * picture(2)])
    single = torch.cat([loss.value(activations(network, one[None], STYLE)) for one in both])
    torch.testing.assert_close(loss.value(activations(network, both, STYLE)), single, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weights", [{"a": 0.0, "b": 0.0}, {"a": 2.0, "b": -1.0}])
def test_weights_that_sum_to_nothing_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(UserError, match="sum to 0"):
        shares(weights)


def test_vggs_wrap_with_circular_padding_and_strides_without_padding_do_not(network: Network) -> None:
    with padded(network, "circular"):
        assert wraps(network, ["relu1_1", "relu4_1"], 8)
    assert not wraps(network, ["relu1_1", "relu4_1"], 8)
    torch.manual_seed(0)
    strided = Network.frozen("strided", nn.Sequential(nn.Conv2d(3, 4, 7, stride=2), nn.ReLU()))
    with padded(strided, "circular"):
        assert not wraps(strided, ["1"], 2)


def test_default_layers_and_the_others(network: Network) -> None:
    assert style_layers(network) == [f"relu{block}_1" for block in range(1, 6)]
    assert other_layers(network, ["relu1_1", "relu2_1", "relu3_1"]) == ["relu1_2", "relu2_2"]


def test_default_layers_leave_out_the_maps_of_the_classes_and_scores_the_parts_of_what_is_used() -> None:
    torch.manual_seed(0)
    squeezenet = Network.frozen("squeezenet1_1", models.squeezenet1_1(weights=None))
    layers = style_layers(squeezenet)
    assert layers == ["features.1", "features.3", "features.6", "features.11"]
    others = other_layers(squeezenet, layers)
    assert others
    assert not any(other == layer or other.startswith(f"{layer}.") for other in others for layer in layers)


class _Padded(nn.Module):
    """A stem and two blocks that pad for themselves, unevenly as in TensorFlow, and share one activation."""

    def __init__(self) -> None:
        super().__init__()
        self.pad, self.act = nn.ZeroPad2d((0, 1, 0, 1)), nn.ReLU6()
        self.stem, self.widened = nn.Conv2d(3, 8, 3, stride=2), nn.ReLU6()
        self.depthwise, self.narrow = nn.Conv2d(8, 8, 3, stride=2, groups=8), nn.Conv2d(8, 4, 1)
        self.head = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.widened(self.stem(self.pad(x)))
        return self.head(self.narrow(self.act(self.depthwise(self.pad(maps)))).mean((2, 3)))


def test_default_layers_are_activations_one_for_each_halving_and_no_paddings() -> None:
    padded_net = Network.frozen("padded", _Padded().eval(), Preprocessing(size=64, resize=64))
    assert style_layers(padded_net) == ["widened", "act"]
    googlenet = Network.frozen(
        "theirs", models.googlenet(weights=None, init_weights=False, aux_logits=False).eval(), Preprocessing(size=64, resize=64)
    )
    assert style_layers(googlenet)[:3] == ["conv1", "conv3", "inception3b"]  # its ReLUs are no modules
    inception = models.inception_v3(weights=None, init_weights=False).eval()  # convolutions that lose a border
    found = style_layers(Network.frozen("theirs", inception, Preprocessing(size=128, resize=128)))
    assert found[:2] == ["Conv2d_2b_3x3", "Conv2d_4a_3x3"]
    assert "Mixed_6a" in found
