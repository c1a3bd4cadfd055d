"""Activations of any module, and no further than asked for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.network.activations import activations, before_rectifier, rectified_layer
from cnnvis_cli.engine.network.network import Network, Preprocessing

# One network of every family, with a layer in its middle.
FAMILIES = {
    "vgg11": "features.9",
    "resnet18": "layer2.1",
    "squeezenet1_1": "features.6.expand3x3_activation",
    "googlenet": "inception4a",
    "mobilenet_v2": "features.7.conv.1.0",
    "efficientnet_b0": "features.4.0.block.1",
    "densenet121": "features.denseblock2.denselayer3.conv1",
}


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    extra = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    module = models.get_model(name, weights=None, **extra).eval()
    for child in module.modules():  # statistics that make folding matter
        if isinstance(child, nn.BatchNorm2d):
            child.running_mean.normal_(0, 0.1)
            child.running_var.uniform_(0.5, 1.5)
    return module


@pytest.mark.parametrize("name", FAMILIES)
def test_stops_at_the_deepest_layer_and_equals_a_plain_hook(name: str) -> None:
    module = build(name)
    network = Network.frozen(name, module)
    images = torch.rand(2, 3, 64, 64)
    layer = FAMILIES[name]
    seen: dict[str, Tensor] = {}
    later = list(network.layers)[list(network.layers).index(layer) + 1 :]
    parents = {later_name for later_name in later if layer.startswith(f"{later_name}.")}
    handles = [
        network.module.get_submodule(after).register_forward_pre_hook(
            lambda child, inputs, after=after: seen.__setitem__(after, inputs[0])
        )
        for after in later
        if after not in parents and network.layers[after].calls == 1
    ]
    found = activations(network, images, [layer])[layer]
    for handle in handles:
        handle.remove()
    assert seen == {}, "layers behind the one asked for were run"
    network.module.get_submodule(layer).register_forward_hook(lambda c, i, output: seen.__setitem__("it", output.clone()))
    logits = network(images)
    assert torch.allclose(found, seen["it"], atol=1e-5)
    plain = module(network.normalize(images))
    assert torch.allclose(logits, plain, rtol=1e-4, atol=1e-4 * plain.abs().max().item()), "folding changed the function"


def test_every_batchnorm_after_a_convolution_is_folded() -> None:
    network = Network.frozen("resnet18", build("resnet18"))
    assert not any(isinstance(child, nn.BatchNorm2d) for child in network.module.modules())


def test_a_convolution_that_others_read_too_keeps_its_batchnorm() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.norm.running_mean.fill_(1.0)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return (y + self.norm(y)).mean((2, 3))

    module = Twice().eval()
    network = Network.frozen("twice", module)
    images = torch.rand(1, 3, 16, 16)
    assert torch.allclose(network(images), module(network.normalize(images)), atol=1e-6)


def test_in_place_rectifiers_do_not_change_what_was_captured() -> None:
    class Inplace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.last = nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.relu(self.conv(x))
            return torch.nn.functional.relu(self.last(x), inplace=True).mean((2, 3))

    network = Network.frozen("inplace", Inplace())
    acts = activations(network, torch.rand(1, 3, 16, 16), ["conv", "last", "relu"])
    assert acts["conv"].min() < 0, "the rectifier wrote over the convolution's output"
    assert torch.equal(acts["relu"], acts["conv"].relu())


def test_a_shared_module_gives_its_last_output() -> None:
    network = Network.frozen("resnet18", build("resnet18"))
    assert network.layer("layer1.0.relu").calls == 2
    acts = activations(network, torch.rand(1, 3, 64, 64), ["layer1.0.relu", "layer1.0"])
    assert torch.equal(acts["layer1.0.relu"], acts["layer1.0"])


def test_hooks_are_gone_after_a_run_and_after_an_exception(minivgg: Network, images: Tensor) -> None:
    activations(minivgg, images, ["conv3_1"])
    with pytest.raises(UserError):
        activations(minivgg, images[:, :, :3, :3], ["fc"])
    assert not any(child._forward_hooks for child in minivgg.module.modules())


def test_unknown_layers_are_named_with_near_ones(minivgg: Network, images: Tensor) -> None:
    with pytest.raises(UserError, match=r"no layer 'conv4_11'.*'conv4_1'"):
        activations(minivgg, images, ["conv4_11"])


def test_the_papers_names_work_on_torchvision_vggs() -> None:
    # The classifier, most of a VGG's weights, plays no part here.
    module = models.VGG(models.vgg11_bn(weights=None, init_weights=False).features, num_classes=2)
    module.classifier = nn.Linear(512 * 7 * 7, 2)
    network = Network.frozen("vgg11_bn", module)
    assert network.aliases["relu3_2"] == "features.13"
    assert network.layer("conv5_2").kind == "Conv2d"
    images = torch.rand(1, 3, 48, 48)
    acts = activations(network, images, ["relu1_1", "features.2"])
    assert torch.equal(acts["relu1_1"], acts["features.2"])


def test_nothing_is_trained(minivgg: Network, images: Tensor) -> None:
    leaf = images.clone().requires_grad_()
    activations(minivgg, leaf, ["conv4_1"])["conv4_1"].sum().backward()
    assert leaf.grad is not None
    assert all(p.grad is None and not p.requires_grad for p in minivgg.module.parameters())


def test_grayscale_networks_see_the_luma(lenet: Network) -> None:
    color = torch.rand(1, 3, 28, 28)
    grey = (color * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True).expand(1, 3, 28, 28)
    assert torch.allclose(lenet(color), lenet(grey), atol=1e-4)
    assert lenet.fixed_size


class AddsInPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.first(x)
        out = self.second(shortcut)
        out += shortcut
        return self.third(out)


def test_what_is_changed_in_place_later_is_given_as_the_layer_made_it(images: Tensor) -> None:
    network = Network.frozen("residual", AddsInPlace(), Preprocessing(size=64))
    alone = activations(network, images, ["second"])["second"]
    assert torch.equal(activations(network, images, ["second", "third"])["second"], alone)


def test_the_rectifier_behind_a_layer_is_found_and_not_one_behind_a_sum(images: Tensor) -> None:
    """By the numbers: a ResNet's last rectifier of a block rectifies the sum with the shortcut, not the convolution."""
    network = Network.frozen("resnet18", build("resnet18"))
    assert rectified_layer(network, "conv1", images) == "relu"
    assert rectified_layer(network, "layer1.0.conv2", images) == "layer1.0.conv2"
    bottleneck = Network.frozen("mobilenet_v2", build("mobilenet_v2"))
    assert rectified_layer(bottleneck, "features.1.conv.1", images) == "features.1.conv.1"  # a linear bottleneck
    assert rectified_layer(bottleneck, "features.2.conv.0.0", images) == "features.2.conv.0.2"  # ReLU6


def test_the_channel_before_a_rectifier_is_found_also_behind_a_concatenation(images: Tensor) -> None:
    network = Network.frozen("squeezenet1_1", build("squeezenet1_1"))
    width = network.layer("features.3.expand1x1").channels
    with torch.no_grad():
        maps = activations(network, images, ["features.3.expand1x1", "features.3.expand3x3"])
    branches = (maps["features.3.expand1x1"], maps["features.3.expand3x3"])
    first, second = (int(((m.amax((0, 2, 3)) > 0) & (m.amin((0, 2, 3)) < 0)).nonzero()[0]) for m in branches)
    assert before_rectifier(network, "features.3", first, images) == ("features.3.expand1x1", first)
    assert before_rectifier(network, "features.3", width + second, images) == ("features.3.expand3x3", second)
    assert before_rectifier(network, "features.3.expand3x3", second, images) == ("features.3.expand3x3", second)
