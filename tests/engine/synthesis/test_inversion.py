"""Inversion: the units mean what they say, codes are found again, and errors say what is wrong."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.network.network import Network, Preprocessing
from cnnvis_cli.engine.optim.loop import synthesize
from cnnvis_cli.engine.optim.parameterizations import Fourier, Pixels
from cnnvis_cli.engine.optim.regularizers import gaussian_blur
from cnnvis_cli.engine.synthesis.inversion import (
    OPPONENT_COLORS,
    Units,
    block_ends,
    check_code,
    code_distance,
    color_variation,
    inversion_loop,
    inversion_objective,
    layer_code,
    natural_units,
    pitch,
    similarity,
    trunk,
)


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 8, 3), nn.Flatten())
    return Network.frozen("small", module, Preprocessing(size=24, resize=24))


@pytest.fixture
def smooth(images: Tensor) -> Tensor:
    return gaussian_blur(images[..., :24, :24], 2.0)


def test_opponent_colors_are_orthonormal_and_grey_has_no_chroma() -> None:
    torch.testing.assert_close(OPPONENT_COLORS @ OPPONENT_COLORS.T, torch.eye(3))
    grey = torch.rand(1, 1, 8, 8).expand(1, 3, 8, 8)
    assert color_variation(grey, 2.0)[0, 1:].max() < 1e-6


def test_variation_of_a_ramp_is_its_slope() -> None:
    ramp = torch.linspace(0, 0.9, 10).view(1, 1, 1, 10).expand(1, 3, 10, 10)
    expected = (0.1 * 3**0.5) ** 1.5
    assert color_variation(ramp, 1.5)[0, 0].item() == pytest.approx(expected, rel=1e-3)


def test_objective_of_natural_pictures_is_their_priors_in_units(network: Network, smooth: Tensor) -> None:
    """A natural picture has no distance from its own code, and priors of one unit each on average."""
    units = natural_units(network, "1", smooth)
    code = layer_code(network, "1", smooth)
    from cnnvis_cli.engine.optim.evaluate import score

    values = score(network, inversion_objective("1", code, units, variation=1, norm_weight=1), smooth)
    assert values.mean().item() == pytest.approx(-2.0, rel=1e-3)
    data = inversion_objective("1", code, units, tolerance=0, variation=0, norm_weight=0)
    assert score(network, data, gaussian_blur(smooth, 0.5)).mean().item() == pytest.approx(-1.0, rel=0.2)
    spared = inversion_objective("1", code, units, tolerance=0.4, variation=0, norm_weight=0)
    assert score(network, spared, gaussian_blur(smooth, 0.5)).mean().item() == pytest.approx(-0.6, rel=0.3)


def test_pitch_is_the_distance_of_positions_and_of_a_vector_the_whole_side() -> None:
    assert pitch(torch.zeros(1, 8, 24, 24), 24) == 1
    assert pitch(torch.zeros(1, 8, 5, 6), 24) == 4
    assert pitch(torch.zeros(1, 8), 24) == 24


def test_deeper_blocks_are_held_to_their_codes_less_closely(minivgg: Network, images: Tensor) -> None:
    """The unit of a code grows with the pitch of the maps: what makes the error of inversions grow with depth."""
    layers = ["relu1_2", "relu2_2", "relu3_2", "relu4_2"]
    smooth = gaussian_blur(images, 1.0)
    found = [natural_units(minivgg, layer, smooth).code for layer in layers]
    assert found == sorted(found)
    assert found[-1] > 5 * found[0]


@pytest.mark.parametrize("way", ["pixels", "fourier"])
def test_a_first_layer_is_inverted(network: Network, smooth: Tensor, way: str) -> None:
    target = smooth[:1]
    units = natural_units(network, "1", smooth)
    code = layer_code(network, "1", target)
    image = Pixels(torch.full_like(target, 0.5)) if way == "pixels" else Fourier.from_noise([0], 24, 24, std=0.1)
    objective = inversion_objective("1", code, units, variation=0.01, norm_weight=0.01)
    outcome = synthesize(inversion_loop(network, objective, image, steps=150, rate=0.05 if way == "pixels" else 0.2))
    assert code_distance(layer_code(network, "1", outcome.pictures), code).item() < 0.005
    assert similarity(outcome.pictures, target) > 0.9


def test_variants_of_one_code_differ_where_it_does_not_look(network: Network, smooth: Tensor) -> None:
    code = layer_code(network, "3", smooth[:1])
    units = Units(1.0, torch.ones(3), 1.0)
    objective = inversion_objective("3", code, units, tolerance=0, variation=0, norm_weight=0)
    outcome = synthesize(inversion_loop(network, objective, Fourier.from_noise([0, 1], 24, 24, std=0.5), steps=150, rate=0.2))
    assert code_distance(layer_code(network, "3", outcome.pictures), code).max() < 0.02
    assert (outcome.pictures[0] - outcome.pictures[1]).square().mean().sqrt() > 0.05


def test_codes_from_outside_are_checked(network: Network, smooth: Tensor) -> None:
    code = layer_code(network, "1", smooth[:1])
    assert check_code(network, "1", code[0], 24).shape == code.shape
    with pytest.raises(UserError, match=r"\(16, 24, 24\) for pictures of 24 px"):
        check_code(network, "1", code[0, :5], 24)
    with pytest.raises(UserError, match="not numbers"):
        check_code(network, "1", code * torch.nan, 24)


def test_similarity_of_equal_and_unequal_pictures(images: Tensor) -> None:
    assert similarity(images[:1], images[:1]) == pytest.approx(1.0)
    assert similarity(images[:1], images[1:]) < 0.2


def test_trunk_keeps_blocks_whole_and_ends_them_where_maps_shrink(minivgg: Network) -> None:
    assert block_ends(minivgg) == ["relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2", "pool5", "fc"]
    assert "flatten" not in trunk(minivgg)
    torchvision = pytest.importorskip("torchvision")
    squeezenet = Network.frozen("squeezenet1_0", torchvision.models.squeezenet1_0(), Preprocessing(size=64, resize=64))
    names = trunk(squeezenet)
    assert names[:4] == ["features.0", "features.1", "features.2", "features.3"]
    assert "features.3.squeeze" not in names
    assert "classifier" not in names


class _Listed(nn.Module):
    """Two blocks in a list, as many networks outside of torchvision keep them, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([_Residual(3, 8), _Residual(8, 16)])
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class _Residual(nn.Module):
    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.conv, self.skip = nn.Conv2d(into, out, 3, stride=2, padding=1), nn.Conv2d(into, out, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).relu() + self.skip(x)


class _Wrapped(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def test_lists_of_blocks_and_a_network_in_a_network_are_opened_and_blocks_are_not() -> None:
    listed = Network.frozen("listed", _Listed().eval(), Preprocessing(size=32, resize=32))
    assert trunk(listed) == ["blocks.0", "blocks.1", "head"]
    assert block_ends(listed) == ["blocks.0", "blocks.1", "head"]
    wrapped = Network.frozen("wrapped", _Wrapped(_Wrapped(_Listed())).eval(), Preprocessing(size=32, resize=32))
    assert trunk(wrapped) == [f"net.net.{name}" for name in trunk(listed)]
    torchvision = pytest.importorskip("torchvision")
    for make in (torchvision.models.resnet18, torchvision.models.densenet121):
        plain, inside = (
            Network.frozen("theirs", module.eval(), Preprocessing(size=64, resize=64)) for module in (make(), _Wrapped(make()))
        )
        assert trunk(inside) == [f"net.{name}" for name in trunk(plain)]
