"""Packed convolutions give PyTorch's numbers, in both directions, and leave alone what is not theirs."""

import copy

import pytest
import torch
from torch import nn

from cnnvis_cli.engine.backend.onednn import PackedConvolutions, product
from cnnvis_cli.engine.network.network import Network

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
def test_output_and_gradient_equal_pytorchs(kernel, stride, padding, height, width):
    module = conv(3, 8, kernel, stride=stride, padding=padding)
    images = torch.randn(2, 3, height, width, requires_grad=True)
    plain = module(images)
    with PackedConvolutions() as packing:
        packed = module(images)
    assert len(packing.known) == 1
    weights = torch.randn_like(plain)
    (wanted,) = torch.autograd.grad(plain, images, weights)
    (got,) = torch.autograd.grad(packed, images, weights)
    torch.testing.assert_close(packed, plain)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


def test_bits_do_not_depend_on_the_shape_it_was_packed_for():
    module = conv(16, 24, 3, padding=1)
    images = torch.randn(1, 16, 20, 28, requires_grad=True)

    def run(first: tuple[int, ...] | None) -> tuple[torch.Tensor, torch.Tensor]:
        with PackedConvolutions():
            if first:
                early = torch.randn(first, requires_grad=True)
                module(early).sum().backward()
            output = module(images)
        return output, torch.autograd.grad(output.square().sum(), images)[0]

    fresh, after = run(None), run((8, 16, 5, 7))
    assert all(torch.equal(a, b) for a, b in zip(fresh, after, strict=True))


@pytest.mark.parametrize("module", [conv(4, 4, 3, groups=4), conv(4, 4, 3, dilation=2), conv(4, 4, 3, padding="same")])
def test_other_convolutions_are_left_to_pytorch(module):
    with PackedConvolutions() as packing:
        module(torch.randn(1, 4, 9, 9))
    assert not packing.known


def test_weights_that_want_gradients_get_them():
    module = nn.Conv2d(3, 4, 3)
    with PackedConvolutions():
        module(torch.randn(1, 3, 8, 8)).sum().backward()
    assert module.weight.grad is not None


def test_changed_weights_are_packed_anew():
    module = conv(3, 4, 3, bias=False)
    images = torch.randn(1, 3, 8, 8)
    with PackedConvolutions():
        before = module(images)
        module.weight.mul_(2)
        torch.testing.assert_close(module(images), 2 * before)


def test_a_network_packs_and_can_be_asked_not_to():
    module = nn.Sequential(conv(3, 8, 3), nn.ReLU(), conv(8, 4, 3))
    network = Network.frozen("tiny", module)
    images = torch.rand(1, 3, 16, 16)
    with network.unpacked():
        plain = network(images)
        assert network.packing is None
    assert not network.packing.known
    torch.testing.assert_close(network(images), plain)
    assert len(network.packing.known) == 2
    assert not copy.deepcopy(network).packing.known


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
    with PackedConvolutions():
        result = layer(ours)
    made_by = result.grad_fn.next_functions[0][0]  # before it is given its shape
    assert type(made_by).__name__ == "_LinearBackward"
    expected = layer(theirs)
    torch.testing.assert_close(result, expected)
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(
        *(torch.autograd.grad(value, leaf, direction)[0] for value, leaf in ((result, ours), (expected, theirs)))
    )


def test_linear_layers_that_learn_are_left_to_pytorch():
    layer, rows = nn.Linear(4, 2), torch.ones(3, 4)
    with PackedConvolutions():
        layer(rows).sum().backward()
    assert layer.weight.grad.abs().sum() > 0
    assert torch.equal(layer.bias.grad, torch.full((2,), 3.0))


def test_what_does_not_fit_is_told_by_pytorch():
    layer = nn.Linear(4, 2).requires_grad_(False)
    with PackedConvolutions():
        assert layer(torch.ones(0, 4)).shape == (0, 2)
        with pytest.raises(RuntimeError, match="shapes"):
            layer(torch.ones(3, 5))
