"""Packed convolutions give PyTorch's numbers, in both directions, and leave alone what is not theirs."""

import copy
import subprocess
import sys
import tempfile

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

from cnnvis_cli.engine.backend import onednn
from cnnvis_cli.engine.backend.onednn import accelerate, product
from cnnvis_cli.engine.network.network import Network, Preprocessing

SHAPES = [
    # kernel, stride, padding, height, width
    (3, 1, 1, 9, 12),
    (7, 2, 3, 33, 40),
    (7, 2, 0, 33, 30),
    (11, 4, 2, 63, 67),
    (3, 2, 1, 15, 16),
    (1, 1, 0, 8, 8),
    (1, 2, 0, 9, 9),
    (1, 1, 1, 5, 6),  # padding wider than the kernel reaches
    (5, 1, 0, 12, 11),
    (4, 2, 1, 17, 19),
    ((1, 7), 1, (0, 3), 9, 9),
]


def conv(*args, **kwargs) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(*args, **kwargs).requires_grad_(False)


@pytest.mark.parametrize(("kernel", "stride", "padding", "height", "width"), SHAPES)
@pytest.mark.parametrize("mode", ["zeros", "replicate"])
def test_output_and_gradient_equal_pytorchs(kernel, stride, padding, height, width, mode):
    module = conv(3, 8, kernel, stride=stride, padding=padding)
    module.padding_mode = mode
    images = torch.randn(2, 3, height, width, requires_grad=True)
    plain = F.conv2d(*padded(images, module, mode), module.weight, module.bias, stride=stride)
    switch = accelerate(module)
    for _ in range(2):  # the first answers are compared with PyTorch's, the second are taken as they come
        packed = module(images)
        weights = torch.randn_like(plain)
        (wanted,) = torch.autograd.grad(plain, images, weights, retain_graph=True)
        (got,) = torch.autograd.grad(packed, images, weights)
        torch.testing.assert_close(packed, plain)
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)
    assert len(switch.packed) == 1
    assert all(next(iter(switch.packed.values())).trusted.values())


def padded(images: torch.Tensor, module: nn.Conv2d, mode: str) -> tuple[torch.Tensor]:
    top, left = module.padding
    return (F.pad(images, (left, left, top, top), mode="constant" if mode == "zeros" else mode),)


def test_bits_do_not_depend_on_the_shape_it_was_packed_for():
    images = torch.randn(1, 16, 20, 28, requires_grad=True)

    def run(first: tuple[int, ...] | None) -> tuple[torch.Tensor, torch.Tensor]:
        module = conv(16, 24, 3, padding=1)
        accelerate(module)
        for shape in [first or images.shape] * 2:
            module(torch.randn(shape, requires_grad=True)).sum().backward()
        output = module(images)
        return output, torch.autograd.grad(output.square().sum(), images)[0]

    fresh, after = run(None), run((8, 16, 5, 7))
    assert all(torch.equal(a, b) for a, b in zip(fresh, after, strict=True))


@pytest.mark.parametrize(
    "module",
    [
        conv(4, 4, 3, groups=4),
        conv(4, 4, 3, dilation=2),
        conv(4, 4, 3, padding="same"),
        nn.utils.parametrizations.weight_norm(conv(4, 4, 3)),
        nn.utils.parametrizations.spectral_norm(conv(4, 4, 3)),
        prune.l1_unstructured(conv(4, 4, 3), "weight", 0.5),
    ],
)
def test_other_convolutions_are_left_to_pytorch(module):
    switch = accelerate(module)
    module(torch.randn(1, 4, 9, 9))
    assert not switch.packed


@pytest.mark.parametrize("learns", ["weight", "bias"])
@pytest.mark.parametrize("layer", [nn.Conv2d(3, 4, 3), nn.Linear(8, 4)])
def test_what_learns_gets_its_gradient(learns, layer):
    layer.requires_grad_(False)
    accelerate(layer)
    getattr(layer, learns).requires_grad_(True)
    layer(torch.randn(1, 3, 8, 8)).sum().backward()
    assert getattr(layer, learns).grad.abs().sum() > 0
    layer.requires_grad_(False)


@pytest.mark.parametrize(
    "change",
    [
        lambda weight: weight.mul_(2),
        lambda weight: weight.data.mul_(2),
        lambda weight: weight.data[1].zero_(),
        lambda weight: weight.data.copy_(weight.data.flip(0)),
    ],
)
def test_changed_weights_are_packed_anew(change):
    module = conv(3, 4, 3, bias=False)
    switch = accelerate(module)
    images = torch.randn(1, 3, 8, 8)
    module(images)
    change(module.weight)
    torch.testing.assert_close(module(images), F.conv2d(images, module.weight))
    assert len(switch.packed) == 1, "the old weights are not kept"


def test_nothing_is_kept_of_weights_that_are_computed_in_each_pass():
    class Standardized(nn.Conv2d):
        def forward(self, images):
            return F.conv2d(images, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)

    module = Standardized(3, 4, 3).requires_grad_(False)
    switch = accelerate(module)
    for _ in range(3):
        module(torch.randn(1, 3, 8, 8))
    assert not switch.packed


@pytest.mark.parametrize("fault", ["wrong", "raises"])
def test_it_gives_way_where_its_first_numbers_are_not_pytorchs(monkeypatch, fault):
    def broken(maps, packed, bias, geometry):
        if fault == "raises":
            raise RuntimeError("no such kernel")
        return original(maps, packed, bias, geometry) * 1.5

    original = onednn._run
    monkeypatch.setattr(onednn, "_run", broken)
    module = conv(3, 4, 3)
    images = torch.randn(1, 3, 8, 8, requires_grad=True)
    plain = module(images)
    (wanted,) = torch.autograd.grad(plain.sum(), images)
    accelerate(module)
    for _ in range(2):
        found = module(images)
        torch.testing.assert_close(found, plain)
        torch.testing.assert_close(torch.autograd.grad(found.sum(), images)[0], wanted)


def test_a_network_packs_and_can_be_asked_not_to():
    module = nn.Sequential(conv(3, 8, 3), nn.ReLU(), conv(8, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = Network.frozen("tiny", module, Preprocessing(size=16))
    network.faster.packed.clear()
    images = torch.rand(1, 3, 16, 16)
    with network.plain_arithmetic():
        plain = network(images)
    assert not network.faster.packed
    torch.testing.assert_close(network(images), plain)
    assert len(network.faster.packed) == 2
    again = copy.deepcopy(network)
    assert not again.faster.packed
    assert all(child.switch is again.faster for child in again.module if isinstance(child, nn.Conv2d))
    assert next(iter(network.layers.values())).kind == "Conv2d"


def test_without_the_folder_the_numbers_are_the_same():
    """In a process of its own, in which the folder cannot be imported."""
    code = """
import sys
if sys.argv[1] == "without":
    sys.modules["cnnvis_cli.engine.backend"] = None
import torch
from cnnvis_cli.engine import arithmetic
assert (arithmetic.onednn is None) == (sys.argv[1] == "without")
from cnnvis_cli.engine.optim import objectives
from cnnvis_cli.engine.optim.evaluate import value_gradient
from cnnvis_cli.engine.statistics import Gram, Wasserstein
from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.networks.load import NetworkSpec, load_network
network, _ = load_network(NetworkSpec("minivgg"), torch.device("cpu"))
images = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
values = value_gradient(network, objectives.class_logit(network, 3))(images, torch.arange(1))
maps = activations(network, images, ["relu2_1"])["relu2_1"]
found = [one.between(maps, one.target([one.summary(maps.flip(1))], [1.0])) for one in (Gram(), Wasserstein())]
torch.save([*values, *found], sys.argv[2])
"""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for how in ("with", "without"):
            file = f"{folder}/{how}.pt"
            subprocess.run([sys.executable, "-c", code, how, file], check=True)
            results.append(torch.load(file))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * other.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [1, 2])
def test_products_are_those_of_matmul_in_any_memory_order(batch, dtype):
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(batch, rows, 50, generator=generator, dtype=dtype) for rows in (30, 7))
    expected = left @ right.mT
    torch.testing.assert_close(product(left, right), expected)
    columns = left.mT.contiguous().mT
    torch.testing.assert_close(product(columns, right), expected)
    torch.testing.assert_close(product(columns, columns), left @ left.mT)


@pytest.mark.parametrize("shape", [(1, 40), (5, 40), (2, 3, 40)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers_give_pytorchs_numbers_in_both_directions(shape, bias):
    torch.manual_seed(0)
    layer = nn.Linear(40, 7, bias=bias).requires_grad_(False)
    ours, theirs = (torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    expected = F.linear(theirs, layer.weight, layer.bias)
    accelerate(layer)
    result = layer(ours)
    made_by = result.grad_fn.next_functions[0][0]  # before it is given its shape
    assert type(made_by).__name__ == "_LinearBackward"
    torch.testing.assert_close(result, expected)
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(
        *(torch.autograd.grad(value, leaf, direction)[0] for value, leaf in ((result, ours), (expected, theirs)))
    )


def test_what_does_not_fit_is_told_by_pytorch():
    layer = nn.Linear(4, 2).requires_grad_(False)
    accelerate(layer)
    assert layer(torch.ones(0, 4)).shape == (0, 2)
    with pytest.raises(RuntimeError, match="shapes"):
        layer(torch.ones(3, 5))
