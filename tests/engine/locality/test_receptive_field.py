"""The receptive field against what it means: the pixels with a gradient, and those whose change changes the unit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.vgg import make_layers

from cnnvis_cli.engine.locality.receptive_field import ReceptiveField, receptive_fields
from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.network import Network, Preprocessing


def all_positive(module: nn.Module, size: int) -> Network:
    """Means instead of maxima and positive weights: then every pixel that a unit can see has a positive gradient."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.MaxPool2d):
                pool = nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)  # type: ignore[arg-type]
                setattr(parent, name, pool)
            elif isinstance(child, nn.ReLU6):
                setattr(parent, name, nn.Identity())
    for child in module.modules():
        if isinstance(child, nn.Conv2d | nn.Linear):
            nn.init.constant_(child.weight, 1 / child.weight[0].numel())
            if child.bias is not None:
                nn.init.zeros_(child.bias)
    network = Network.frozen("positive", module, Preprocessing(size=size, resize=size))
    assert network.layers  # looked up in float32
    network.module.double()
    return network


def seen(network: Network, layer: str, y: int, x: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Box of the pixels with a gradient at one place, of any channel (a concatenation's channels see differently much)."""
    picture = torch.ones(1, 3, height, width, dtype=torch.float64, requires_grad=True)
    unit = activations(network, picture, [layer])[layer][0, :, y, x].sum()
    where = torch.autograd.grad(unit, picture)[0][0, 0].abs() > 0
    rows, columns = where.any(1).nonzero().flatten(), where.any(0).nonzero().flatten()
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def vgg() -> nn.Module:
    features = make_layers([8, "M", 8, "M", 8, 8, "M", 8, 8, "M", 8, 8, "M"])
    return nn.Sequential(OrderedDict(features=features, avgpool=nn.AdaptiveAvgPool2d(2)))


def mobilenet() -> nn.Module:
    return models.MobileNetV2(num_classes=4, width_mult=0.25)


def densenet() -> nn.Module:
    return models.DenseNet(4, (2, 2, 2, 2), 8, num_classes=4)


def googlenet() -> nn.Module:
    return models.GoogLeNet(4, init_weights=False)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "vgg": (vgg, ("features.6", "features.15", "features", "avgpool")),
    "resnet": (lambda: models.resnet18(num_classes=4), ("maxpool", "layer2.0.downsample", "layer2", "layer3")),
    "squeezenet": (lambda: models.squeezenet1_0(num_classes=4), ("features.3.expand3x3", "features.6", "features.9")),
    "googlenet": (googlenet, ("inception3a.branch1", "inception3a", "maxpool3", "inception4b")),
    "densenet": (densenet, ("features.denseblock1", "features.transition2", "features.norm5")),
    "mobilenet": (mobilenet, ("features.2", "features.5", "features.9.conv.1")),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_box_is_the_support_of_the_gradient(name: str) -> None:
    build, layers = NETWORKS[name]
    height, width = 113, 96
    network = all_positive(build(), 96)
    fields = receptive_fields(network, height, width)
    for layer in layers:
        rows, columns = (len(span.reach) for span in (fields[layer].rows, fields[layer].columns))
        for y, x in ((0, 0), (rows // 2, columns // 2), (rows - 1, columns - 1)):
            assert fields[layer].box(y, x) == seen(network, layer, y, x, height, width), (layer, y, x)


@pytest.mark.parametrize(
    ("build", "layer", "size", "stride"),
    [
        (lambda: models.vgg16(), "features.28", 196, 16),
        (lambda: models.resnet18(), "layer4", 435, 32),
        (lambda: models.alexnet(), "features.12", 195, 32),
    ],
)
def test_sizes_that_others_have_published(build: Callable[[], nn.Module], layer: str, size: int, stride: int) -> None:
    """Araujo, Norris, Sim 2019, `Computing receptive fields of convolutional neural networks`, table 1 (and for AlexNet,
    VGG16 and ResNet without the adaptive pool)."""
    with torch.device("meta"):
        module = build().eval()
    network = Network("shapes", module, Preprocessing(), (), torch.device("meta"))
    network.__dict__["layers"] = _layers(network)
    field = receptive_fields(network)[layer]
    assert field.size == (size, size)
    assert field.rows.stride == stride


def _layers(network: Network) -> dict:
    from cnnvis_cli.engine.network.layers import probe_layers

    return probe_layers(network.module, torch.empty(1, 3, 224, 224, device="meta"))


def test_what_sees_the_whole_picture(minivgg: Network, lenet: Network) -> None:
    for network, layers in ((minivgg, ("avgpool", "flatten", "fc")), (lenet, ("flatten", "fc1", "fc3"))):
        fields = receptive_fields(network)
        for layer in layers:
            assert fields[layer].size is None
            assert fields[layer].box() == (0, network.size, 0, network.size)
    assert receptive_fields(lenet)["pool2"].size == (16, 16)
    assert receptive_fields(minivgg)["relu5_2"].size == (140, 140)


def test_only_pixels_in_the_box_matter(minivgg: Network, generator: torch.Generator) -> None:
    picture, other = torch.rand(2, 1, 3, 96, 96, generator=generator)
    y, x = 5, 6
    top, bottom, left, right = receptive_fields(minivgg)["relu3_2"].box(y, x)
    mixed = other.clone()
    mixed[..., top:bottom, left:right] = picture[..., top:bottom, left:right]
    assert (bottom - top, right - left) == (32, 32)
    a, b, c = (activations(minivgg, images, ["relu3_2"])["relu3_2"][0, :, y, x] for images in (picture, mixed, other))
    torch.testing.assert_close(a, b)
    assert not torch.allclose(a, c)


class Odd(nn.Module):
    """Layouts and functions that a Sequential does not have: channels last, linear maps over positions, cuts, additions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2)
        self.norm = nn.LayerNorm(6)
        self.mix = nn.Linear(6, 8)
        self.left = nn.Conv2d(4, 4, (1, 5), padding=(0, 2))
        self.right = nn.Conv2d(4, 4, (3, 1), padding=(1, 0), dilation=(1, 1))
        self.join = nn.Conv2d(8, 5, 3, padding=2, dilation=2)
        self.out = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).permute(0, 2, 3, 1)
        left, right = self.mix(self.norm(x)).permute(0, 3, 1, 2).contiguous().chunk(2, dim=1)
        both = torch.cat([self.left(left), self.right(right)], 1)
        return self.out(self.join(both) + self.join(both).mean(1, keepdim=True))


def test_any_code() -> None:
    network = Network.frozen("odd", Odd(), Preprocessing(size=64, resize=64))
    field = receptive_fields(network)["out"]
    # 3 by the first, then +2*2 by 3x1 and +4*2 by the dilated one; +4*2 and +4*2 the other way.
    assert field.size == (3 + 4 + 8, 3 + 8 + 8)
    assert (field.rows.stride, field.rows.start, field.columns.start) == (2, -6, -8)


def test_squeeze_and_excitation_sees_everything() -> None:
    network = Network.frozen("se", models.mobilenet_v3_small(weights=None))
    fields = receptive_fields(network)
    assert fields["features.0"].size == (3, 3)
    assert fields["features.12"].size is None


def test_spread_puts_a_unit_on_its_centre(minivgg: Network) -> None:
    field: ReceptiveField = receptive_fields(minivgg)["relu2_2"]
    maps = torch.zeros(1, 48, 48)
    maps[0, 10, 30] = 1
    heat = field.spread(maps)[0]
    top, bottom, left, right = field.box(10, 30)
    rows, columns = heat.sum(1), heat.sum(0)
    place = torch.arange(96.0) + 0.5
    assert heat.shape == (96, 96)
    assert (rows * place).sum() / rows.sum() == pytest.approx((top + bottom) / 2, abs=1e-4)
    assert (columns * place).sum() / columns.sum() == pytest.approx((left + right) / 2, abs=1e-4)
    torch.testing.assert_close(field.spread(torch.ones(2, 48, 48)), torch.ones(2, 96, 96))


def test_a_function_that_is_not_in_the_table_is_reported_not_guessed() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.odd, self.last = nn.Conv2d(3, 4, 3), nn.Module(), nn.Conv2d(4, 4, 3)
            self.odd.forward = lambda x: torch.cumsum(x, 3)  # type: ignore[method-assign]

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.odd(self.first(x))).mean((2, 3))

    network = Network.frozen("odd", Odd(), Preprocessing(size=32, resize=32))
    fields = receptive_fields(network)
    assert fields["first"].approximate == ()
    assert fields["first"].size == (3, 3)
    assert fields["last"].approximate == ("cumsum",)
    assert fields["last"].size is None, "taken to see all that stands before it"
