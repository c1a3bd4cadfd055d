"""Attribution: equal to captum where captum is right, guided backprop for every rectifier, maps that lie where they should."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from cnnvis_cli.engine import attribution
from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.network import Network, Preprocessing
from cnnvis_cli.engine.objectives import Objective, channel, class_logit

NAMES = ("resnet18", "vgg16", "squeezenet1_0")
LAYERS = {"resnet18": "layer4", "vgg16": "features.29", "squeezenet1_0": "features.12"}


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
    ours = attribution.gradient(network, images, target)
    assert close(ours, captum.Saliency(module).attribute(leaf, target=3, abs=False))
    assert close(attribution.strongest(ours), captum.Saliency(module).attribute(leaf, target=3).amax(1))
    start = attribution.baseline(network)
    theirs = captum.IntegratedGradients(module).attribute(leaf, start.expand_as(images), target=3, n_steps=4)
    assert close(attribution.integrated_gradients(network, images, target, steps=4), theirs.float())
    layer = LAYERS[network.name]
    cam = captum.LayerGradCam(module, module.module.get_submodule(layer)).attribute(leaf, target=3, relu_attributions=True)
    assert close(attribution.grad_cam(network, images, target, layer), cam[:, 0])
    theirs = captum.GuidedBackprop(module).attribute(leaf, target=3)
    assert close(attribution.guided_backprop(network, images, target), theirs)


def test_integrated_gradients_add_up_to_the_difference(images: Tensor) -> None:
    network = Network.frozen("squeezenet1_0", random_module("squeezenet1_0"), Preprocessing(size=64))
    target = class_logit(network, 3)
    total = attribution.integrated_gradients(network, images, target, steps=100).sum((1, 2, 3))
    start = attribution.baseline(network).expand_as(images)
    change = attribution.score(network, images, target) - attribution.score(network, start, target)
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


class TwoLayers(nn.Module):
    def __init__(self, rectify: Callable[[Tensor], Tensor]):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)
        self.rectify = rectify

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.rectify(self.second(self.rectify(self.first(x)))).mean((2, 3)))


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
    guided = attribution.guided_backprop(network, images, target)
    assert close(guided, by_hand(network, images, 1))
    plain = attribution.gradient(network, images, target)
    assert not close(guided, plain)
    again = attribution.gradient(network, images, target)
    assert torch.equal(plain, again), "guided backprop must undo itself"


@pytest.mark.parametrize("rectify", [nn.SiLU(), F.gelu, lambda x: x.clamp(min=-1), lambda x: F.hardtanh(x)])
def test_guided_backprop_refuses_where_there_is_no_rectifier(rectify: Callable[[Tensor], Tensor], images: Tensor) -> None:
    network = tiny(rectify)
    with pytest.raises(UserError, match="no meaning for tiny"):
        attribution.guided_backprop(network, images, class_logit(network, 1))


@pytest.mark.parametrize("name", ["googlenet", "mobilenet_v2", "densenet121"])
def test_guided_backprop_is_no_plain_gradient_where_rectifiers_are_functional(name: str, images: Tensor) -> None:
    network = Network.frozen(name, random_module(name), Preprocessing(size=64))
    target = class_logit(network, 3)
    plain = attribution.gradient(network, images[:1], target)
    guided = attribution.guided_backprop(network, images[:1], target)
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
    assert close(attribution.gradient(network, one, target), theirs) == functional
    assert not close(attribution.guided_backprop(network, one, target), theirs)


def test_smoothgrad_is_the_mean_gradient_around_the_picture(images: Tensor) -> None:
    network = tiny(F.relu)
    target = class_logit(network, 0)
    images = images[..., :16, :16]
    plain = attribution.gradient(network, images, target)
    silent = attribution.smoothgrad(network, images, target, torch.Generator().manual_seed(0), samples=2, noise=0.0)
    torch.testing.assert_close(silent, plain)
    runs = [
        attribution.smoothgrad(network, images, target, torch.Generator().manual_seed(seed), samples=8) for seed in (1, 1, 2)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_gradient_times_input_is_exact_for_a_linear_network(images: Tensor) -> None:
    linear = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = Network.frozen("linear", linear, Preprocessing(size=64))
    target = class_logit(network, 2)
    total = attribution.gradient_times_input(network, images, target).sum((1, 2, 3))
    bias = attribution.score(network, attribution.baseline(network).expand_as(images), target)
    torch.testing.assert_close(total, attribution.score(network, images, target) - bias)


def test_inner_channels_are_targets_too(images: Tensor) -> None:
    network = tiny(nn.ReLU())
    grads = attribution.gradient(network, images, channel("second", 5))
    assert close(grads, torch.autograd.functional.jacobian(
        lambda x: network.module.second(network.module.first(network.normalize(x)).relu())[:, 5].mean((1, 2)).sum(), images
    ))  # fmt: skip


def test_grad_cam_takes_the_last_maps_before_the_target(images: Tensor) -> None:
    network = Network.frozen("vgg16", random_module("vgg16"), Preprocessing(size=64))
    assert attribution.grad_cam_layer(network, class_logit(network, 0)) == "features.29"
    assert attribution.grad_cam_layer(network, channel("features.19", 0)) == "features.18"
    with pytest.raises(UserError, match="gives a vector"):
        attribution.grad_cam(network, images, class_logit(network, 0), "classifier")
    with pytest.raises(UserError, match="does not depend on layer"):
        attribution.grad_cam(network, images, channel("features.2", 0), "features.10")
    with pytest.raises(UserError, match="needs a convolution"):
        attribution.grad_cam(network, images, Objective(frozenset(["features.0"]), lambda a: a["features.0"].mean(), "x"))


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
        cam = attribution.grad_cam(network, image, class_logit(network, 0), layer)
        drawn = attribution.over_picture(network, image, layer, cam)[0]
        weights = drawn / drawn.sum()
        middle = (weights.sum(1) @ torch.arange(height).float(), weights.sum(0) @ torch.arange(width).float())
        assert abs(float(middle[0]) - 24) <= 1
        assert abs(float(middle[1]) - 34) <= 1
