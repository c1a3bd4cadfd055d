"""What a stylizer promises before it has learned anything (Ulyanov, Dumoulin, Odena), and passes in strips."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cnnvis_cli.engine.generators.fast_neural_style import FastNeuralStyle
from cnnvis_cli.engine.generators.normalization import ConditionalNorm, Held, holding
from cnnvis_cli.engine.generators.stylizer import Stylizer, StylizerShape, only_styles, with_more_styles
from cnnvis_cli.engine.generators.upconv import Upsample, ripple, untrained
from cnnvis_cli.engine.synthesis.passes import stylized


def stylizer(styles: int = 2, **more: object) -> Stylizer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = Stylizer(StylizerShape(styles, width=4, blocks=2, **more))  # type: ignore[arg-type]
        for layer in made.modules():
            if isinstance(layer, ConditionalNorm):  # styles that differ
                torch.nn.init.uniform_(layer.scale, 0.5, 1.5)
                torch.nn.init.normal_(layer.shift, 0, 0.3)
    return made.requires_grad_(False).eval()


def shares(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float32)


@pytest.mark.parametrize("height", [16, 17, 50, 131])
@pytest.mark.parametrize("width", [16, 33, 257])
def test_any_size_comes_back(height: int, width: int, generator: torch.Generator) -> None:
    made = stylizer()(torch.rand(1, 3, height, width, generator=generator), shares(1, 0))
    assert made.shape == (1, 3, height, width)
    assert made.min() >= 0
    assert made.max() <= 1


def test_instance_normalization_has_no_mode_and_batch_normalization_has(images: Tensor) -> None:
    for norm, alike in (("instance", True), ("batch", False)):
        network = stylizer(norm=norm)
        used = network(images, shares(1, 0).expand(2, -1))
        assert torch.equal(network.train()(images, shares(1, 0).expand(2, -1)), used) == alike


def test_a_batch_is_a_number_of_single_pictures_with_instance_normalization_alone(images: Tensor) -> None:
    for norm, alike in (("instance", True), ("none", True), ("batch", False)):
        network = stylizer(norm=norm).train()
        together = network(images, shares(1, 0).expand(2, -1))
        single = torch.cat([network(one[None], shares(1, 0)) for one in images])
        assert torch.allclose(together, single, atol=1e-5) == alike, norm


def test_exposure_and_contrast_do_not_matter(images: Tensor) -> None:
    network, style = stylizer(), shares(1, 0).expand(2, -1)
    assert torch.allclose(network(0.4 * images + 0.2, style), network(images, style), atol=1e-3)
    assert not torch.allclose(network(images.square(), style), network(images, style), atol=0.01)


def test_a_flat_picture_stays_calm() -> None:
    made = stylizer()(torch.full((1, 3, 48, 48), 0.7), shares(1, 0))
    assert torch.isfinite(made).all()
    assert made.std((2, 3)).max() < 1e-3


def test_shares_choose_and_mix(images: Tensor) -> None:
    network = stylizer()
    first, second, mixed = (network(images[:1], shares(*values)) for values in ((1, 0), (0, 1), (0.5, 0.5)))
    assert not torch.allclose(first, second, atol=0.01)
    assert not torch.allclose(first, mixed, atol=0.005)
    assert torch.equal(network(images[:1], network.mixed(torch.tensor([1]))), second)


def test_another_style_leaves_those_there_are(images: Tensor) -> None:
    network = stylizer()
    grown = with_more_styles(network, 3)
    assert torch.equal(grown(images[:1], shares(0, 1, 0)), network(images[:1], shares(0, 1)))
    only_styles(grown)
    grown(images[:1], shares(0, 0, 1)).mean().backward()
    learning = {name: value for name, value in grown.named_parameters() if value.requires_grad}
    assert all(name.endswith(("scale", "shift")) for name in learning)
    assert all(not value.grad[:2].any() for value in learning.values() if value.grad is not None)
    assert any(value.grad[2].any() for value in learning.values() if value.grad is not None)


@pytest.mark.parametrize(("kind", "even"), [("nearest", True), ("bilinear", True), ("shuffle", True), ("transposed", False)])
def test_only_transposed_convolutions_draw_a_checkerboard_before_they_learn(kind: Upsample, even: bool) -> None:
    before = ripple(untrained(kind))
    assert (before < 1e-5) if even else (before > 0.5)


def test_what_enlarges_then_convolves_cannot_learn_to_ripple(generator: torch.Generator) -> None:
    """After training too: whatever its weights, the answer to a flat map is flat; pixel shuffle can lose its even start."""
    found = {}
    for kind in ("nearest", "bilinear", "shuffle"):
        layer = untrained(kind)
        for weight in layer.parameters():
            weight.data += torch.randn(weight.shape, generator=generator) * 0.1
        found[kind] = ripple(layer)
    assert max(found["nearest"], found["bilinear"]) < 1e-5
    assert found["shuffle"] > 0.1


@pytest.mark.parametrize("upsample", ["nearest", "bilinear", "transposed", "shuffle"])
@pytest.mark.parametrize("norm", ["instance", "none"])
@pytest.mark.parametrize("size", [(93, 60), (160, 41)])
def test_strips_give_the_whole_pass(upsample: str, norm: str, size: tuple[int, int], generator: torch.Generator) -> None:
    network = stylizer(upsample=upsample, norm=norm)
    picture = torch.rand(1, 3, *size, generator=generator)
    whole = stylized(network, picture, shares(0.3, 0.7), strip=0)
    for strip in (8, 13):
        assert torch.allclose(stylized(network, picture, shares(0.3, 0.7), strip=strip), whole, atol=1e-5)


def test_films_hold_their_statistics(images: Tensor) -> None:
    network = stylizer()
    alone = network(images[1:], shares(1, 0))
    with holding(network, Held(0.9)) as _:
        network(images[:1] ** 3, shares(1, 0))
        after_another = network(images[1:], shares(1, 0))
    assert not torch.allclose(after_another, alone, atol=1e-3)
    assert torch.equal(network(images[1:], shares(1, 0)), alone)
    held = Held(0.9)
    with holding(network, held):
        network(images[:1] ** 3, shares(1, 0))
        held.forget()
        assert torch.equal(network(images[1:], shares(1, 0)), alone)


def test_the_shape_is_that_of_the_trials() -> None:
    assert sum(value.numel() for value in Stylizer(StylizerShape()).parameters()) == 416_067
    assert sum(value.numel() for value in FastNeuralStyle().parameters()) == 1_679_235
