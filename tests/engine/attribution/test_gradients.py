"""Attribution: equal to captum where captum is right, guided backprop for every rectifier, maps that lie where they should."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnvis_cli.engine.attribution import gradients
from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.network.network import Network, Preprocessing
from cnnvis_cli.engine.optim.evaluate import score
from cnnvis_cli.engine.optim.objectives import Objective, channel, class_logit
from tests.support.modules import NAMES, Normalized, TwoLayers, random_module

LAYERS = {"resnet18": "layer4", "vgg16": "features.29", "squeezenet1_0": "features.12"}


@pytest.fixture(scope="module", params=NAMES)
def pair(request: pytest.FixtureRequest) -> tuple[Network, Normalized]:
    """A network and the same weights untouched, for captum."""
    module = random_module(request.param)
    network = Network.frozen(request.param, module, Preprocessing(size=64))
    return network, Normalized(module, network)


def close(ours: Tensor, theirs: Tensor) -> bool:
    largest = float(theirs.detach().abs().max())
    return largest > 0 and float((ours - theirs).detach().abs().max()) < 1e-4 * largest


def test_captum_has_the_same_numbers(pair: tuple[Network, Normalized], images: Tensor) -> None:
    captum = pytest.importorskip("captum.attr")
    network, module = pair
    target = class_logit(network, 3)
    leaf = images.clone().requires_grad_(True)
    ours = gradients.gradient(network, images, target)
    assert close(ours, captum.Saliency(module).attribute(leaf, target=3, abs=False))
    assert close(gradients.strongest(ours), captum.Saliency(module).attribute(leaf, target=3).amax(1))
    start = gradients.baseline(network)
    theirs = captum.IntegratedGradients(module).attribute(leaf, start.expand_as(images), target=3, n_steps=4)
    assert close(gradients.integrated_gradients(network, images, target, steps=4), theirs.float())
    layer = LAYERS[network.name]
    cam = captum.LayerGradCam(module, module.module.get_submodule(layer)).attribute(leaf, target=3, relu_attributions=True)
    assert close(gradients.grad_cam(network, images, target, layer), cam[:, 0])
    theirs = captum.GuidedBackprop(module).attribute(leaf, target=3)
    assert close(gradients.guided_backprop(network, images, target), theirs)


def test_integrated_gradients_add_up_to_the_difference(images: Tensor) -> None:
    network = Network.frozen("squeezenet1_0", random_module("squeezenet1_0"), Preprocessing(size=64))
    target = class_logit(network, 3)
    total = gradients.integrated_gradients(network, images, target, steps=100).sum((1, 2, 3))
    start = gradients.baseline(network).expand_as(images)
    change = score(network, target, images) - score(network, target, start)
    torch.testing.assert_close(total, change, rtol=0.02, atol=0.0)


RECTIFIERS: dict[str, Callable[[Tensor], Tensor]] = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU in place": nn.ReLU(inplace=True),
    "nn.ReLU6": nn.ReLU6(),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu_": F.relu_,
    "F.relu6": F.relu6,
    "F.hardtanh": lambda x: F.hardtanh(x, 0.0, 6.0),
    "F.threshold": lambda x: F.threshold(x, 0, 0),
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "Tensor.relu": Tensor.relu,
    "Tensor.relu_": Tensor.relu_,
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min": lambda x: torch.clamp_min(x, 0),
}


def tiny(rectify: Callable[[Tensor], Tensor]) -> Network:
    return Network.frozen("tiny", TwoLayers(rectify), Preprocessing(size=16))


def by_hand(network: Network, images: Tensor, index: int) -> Tensor:
    """Guided backprop from its definition: at each rectifier the gradient times (it > 0) times (the input > 0)."""
    module, leaf = network.module, images.clone().requires_grad_(True)
    first = module.first(network.normalize(leaf))
    second = module.second(first.relu())
    grad = module.last.weight[index][None, :, None, None].expand_as(second) / second[0, 0].numel()
    grad = grad * (grad > 0) * (second > 0)
    grad = torch.autograd.grad(second, first, grad, retain_graph=True)[0]
    grad = grad * (grad > 0) * (first > 0)
    return torch.autograd.grad(first, leaf, grad)[0]


@pytest.mark.parametrize("name", RECTIFIERS)
def test_guided_backprop_sees_every_rectifier(name: str, images: Tensor) -> None:
    network, images = tiny(RECTIFIERS[name]), images[..., :16, :16]
    target = class_logit(network, 1)
    guided = gradients.guided_backprop(network, images, target)
    assert close(guided, by_hand(network, images, 1))
    plain = gradients.gradient(network, images, target)
    assert not close(guided, plain)
    again = gradients.gradient(network, images, target)
    assert torch.equal(plain, again), "guided backprop must undo itself"


@pytest.mark.parametrize("rectify", [nn.SiLU(), F.gelu, lambda x: x.clamp(min=-1), lambda x: F.hardtanh(x)])
def test_guided_backprop_refuses_where_there_is_no_rectifier(rectify: Callable[[Tensor], Tensor], images: Tensor) -> None:
    network = tiny(rectify)
    with pytest.raises(UserError, match="no meaning for tiny"):
        gradients.guided_backprop(network, images, class_logit(network, 1))


@pytest.mark.parametrize("name", ["googlenet", "mobilenet_v2", "densenet121"])
def test_guided_backprop_is_no_plain_gradient_where_rectifiers_are_functional(name: str, images: Tensor) -> None:
    network = Network.frozen(name, random_module(name), Preprocessing(size=64))
    target = class_logit(network, 3)
    plain = gradients.gradient(network, images[:1], target)
    guided = gradients.guided_backprop(network, images[:1], target)
    assert F.cosine_similarity(plain.flatten(), guided.flatten(), 0) < 0.9


@pytest.mark.parametrize(("name", "functional"), [("googlenet", True), ("mobilenet_v2", True), ("densenet121", False)])
@pytest.mark.filterwarnings("ignore")
def test_captum_passes_over_functional_rectifiers(name: str, functional: bool, images: Tensor) -> None:
    """Where all are F.relu or ReLU6, its guided backprop is the plain gradient; densenet121's has all but the last one."""
    captum = pytest.importorskip("captum.attr")
    module = random_module(name)
    network = Network.frozen(name, module, Preprocessing(size=64))
    target, one = class_logit(network, 3), images[:1]
    theirs = captum.GuidedBackprop(Normalized(module, network)).attribute(one.clone().requires_grad_(True), target=3)
    assert close(gradients.gradient(network, one, target), theirs) == functional
    assert not close(gradients.guided_backprop(network, one, target), theirs)


def test_smoothgrad_is_the_mean_gradient_around_the_picture(images: Tensor) -> None:
    network = tiny(F.relu)
    target = class_logit(network, 0)
    images = images[..., :16, :16]
    plain = gradients.gradient(network, images, target)
    silent = gradients.smoothgrad(network, images, target, torch.Generator().manual_seed(0), samples=2, noise=0.0)
    torch.testing.assert_close(silent, plain)
    runs = [gradients.smoothgrad(network, images, target, torch.Generator().manual_seed(seed), samples=8) for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_gradient_times_input_is_exact_for_a_linear_network(images: Tensor) -> None:
    linear = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = Network.frozen("linear", linear, Preprocessing(size=64))
    target = class_logit(network, 2)
    total = gradients.gradient_times_input(network, images, target).sum((1, 2, 3))
    bias = score(network, target, gradients.baseline(network).expand_as(images))
    torch.testing.assert_close(total, score(network, target, images) - bias)


def test_inner_channels_are_targets_too(images: Tensor) -> None:
    network = tiny(nn.ReLU())
    grads = gradients.gradient(network, images, channel("second", 5))
    assert close(grads, torch.autograd.functional.jacobian(
        lambda x: network.module.second(network.module.first(network.normalize(x)).relu())[:, 5].mean((1, 2)).sum(), images
    ))  # fmt: skip


def test_grad_cam_takes_the_last_maps_before_the_target(images: Tensor) -> None:
    network = Network.frozen("vgg16", random_module("vgg16"), Preprocessing(size=64))
    assert gradients.grad_cam_layer(network, class_logit(network, 0)) == "features.29"
    assert gradients.grad_cam_layer(network, channel("features.19", 0)) == "features.18"
    with pytest.raises(UserError, match="gives a vector"):
        gradients.grad_cam(network, images, class_logit(network, 0), "classifier")
    with pytest.raises(UserError, match="does not depend on layer"):
        gradients.grad_cam(network, images, channel("features.2", 0), "features.10")
    with pytest.raises(UserError, match="needs a convolution"):
        gradients.grad_cam(network, images, Objective(frozenset(["features.0"]), lambda a: a["features.0"].mean()))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (75, 53)])
def test_grad_cam_is_drawn_where_its_places_look(height: int, width: int) -> None:
    """A red square behind unpadded strides, whose maps do not share the picture evenly."""
    body = nn.Sequential(
        nn.Conv2d(3, 1, 5, stride=2, bias=False), nn.ReLU(), nn.MaxPool2d(3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    with torch.no_grad():
        body[0].weight.copy_(torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 5, 5))
    network = Network.frozen("red", body, Preprocessing((0.0,) * 3, (1.0,) * 3, size=64))
    image = torch.zeros(1, 3, height, width)
    image[0, 0, 20:29, 30:39] = 1.0
    for layer in ("1", "2"):
        cam = gradients.grad_cam(network, image, class_logit(network, 1), layer)
        drawn = gradients.over_picture(network, image, layer, cam)[0]
        weights = drawn / drawn.sum()
        middle = (weights.sum(1) @ torch.arange(height).float(), weights.sum(0) @ torch.arange(width).float())
        assert abs(float(middle[0]) - 24) <= 1
        assert abs(float(middle[1]) - 34) <= 1
