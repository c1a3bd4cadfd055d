"""The encodings: what their pictures look like, and what variation may and may not do."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch

from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.evolution import Cppn, Direct, Shapes
from cnnvis_cli.engine.evolution.cppn import FUNCTIONS, INPUTS, RATES, WEIGHT
from cnnvis_cli.engine.evolution.encoding import hsv_to_rgb, polynomial_steps

LINEAR = list(FUNCTIONS).index("linear")


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_hsv_is_the_standard_librarys() -> None:
    corners = np.stack(np.meshgrid(np.arange(7) / 6, [0, 0.5, 1], [0, 0.5, 1]), -1).reshape(-1, 3)
    values = np.concatenate([corners, np.random.default_rng(0).random((200, 3))])
    ours = torch.stack(hsv_to_rgb(*torch.from_numpy(values).unbind(1)), 1).numpy()
    assert np.allclose(ours, [colorsys.hsv_to_rgb(*row) for row in values], atol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 2.0, 15.0])
def test_polynomial_steps_have_the_distribution_of_deb(eta: float) -> None:
    steps = polynomial_steps(200_000, eta, rng())
    assert abs(steps).max() <= 1
    assert abs(steps.mean()) < 5e-3
    # |step| = 1 - (1 - u)^(1/(eta+1)) has the mean 1/(eta+2).
    assert abs(steps).mean() == pytest.approx(1 / (eta + 2), rel=0.01)


def test_direct_equal_parents_do_not_turn_grey_and_rate_is_halved() -> None:
    encoding = Direct(40, grayscale=True, cross_rate=1.0)
    (parent,) = encoding.random(1, rng())
    shares = []
    for generation in (0, 999, 1000, 2500):
        children = encoding.vary([(parent, parent)] * 20, generation, rng())
        shares.append(np.mean([child != parent for child in children]))
    # Of the tenth that mutates (0.095: a pixel may be drawn twice) a few round back to what they were.
    assert shares[0] == pytest.approx(0.094, abs=0.006)
    assert shares[1] == shares[0]
    assert shares[2] == pytest.approx(shares[0] / 2, rel=0.1)
    assert shares[3] == pytest.approx(shares[0] / 4, rel=0.15)


def test_direct_crossover_stays_near_the_first_parent_on_either_side() -> None:
    encoding = Direct(60, grayscale=True, rate=1e-12, cross_rate=1.0)
    first, second = np.full((60, 60, 1), 100, np.uint8), np.full((60, 60, 1), 200, np.uint8)
    (child,) = encoding.vary([(first, second)], 0, rng())
    untouched = (child == 100).mean()
    assert 0.5 < untouched < 0.75  # half do not cross, and some cross by less than half a step
    # SBX is symmetric: as often outside the parents as between them.
    assert (child < 100).mean() == pytest.approx((child > 100).mean(), abs=0.03)
    assert abs(child.astype(int) - 100).max() < 80  # (32768 ** (1 / 11) - 1) / 2 of the distance at most


def slow_cppn(genome: np.ndarray, size: int) -> np.ndarray:
    """Outputs (size, size, outputs) of a graph, pixel by pixel and node by node."""
    functions = [math.sin, lambda x: math.tanh(x / 2), lambda x: 2 * math.exp(-x * x) - 1, lambda x: max(-3, min(3, x)) / 3]
    hidden = genome.shape[1] - 1 - INPUTS
    result = np.zeros((size, size, len(genome) - hidden))
    for i in range(size):
        for j in range(size):
            y, x = (2 * (i + 0.5) / size - 1), (2 * (j + 0.5) / size - 1)
            values = [x, y, math.hypot(x, y), 1.0]
            for row in genome.astype(float):
                total = sum(w * v for w, v in zip(row[1:], values, strict=False))
                values.append(functions[int(row[0])](total))
            result[i, j] = values[INPUTS + hidden :]
    return result


@pytest.mark.parametrize("outputs", [1, 3])
def test_cppn_population_equals_one_graph_pixel_by_pixel(outputs: int) -> None:
    encoding = Cppn(9, grayscale=outputs == 1)
    generator = rng()
    genomes = encoding.random(6, generator)
    for _ in range(15):
        genomes = encoding.vary([(g, g) for g in genomes], 0, generator)
    assert max(map(len, genomes)) > outputs + 3, "they have grown"
    images = encoding.render(genomes)
    for genome, image in zip(genomes, images, strict=True):
        values = (slow_cppn(genome, 9) + 1) / 2
        colours = values.repeat(3, 2) if outputs == 1 else np.apply_along_axis(lambda v: colorsys.hsv_to_rgb(*v), 2, values)
        assert abs(image - colours * 255).max() <= 0.51


def test_cppn_is_rendered_at_any_size() -> None:
    encoding = Cppn(16, grayscale=True)
    genome = np.zeros((1, 1 + INPUTS), np.float32)
    genome[0, :2] = LINEAR, 3  # from black on the left to white on the right
    (image,) = encoding.render([genome], 100)
    assert image.shape == (100, 100, 3)
    assert np.array_equal(image[0], image[-1])
    assert (np.diff(image[0, :, 0].astype(int)) > 0).all()
    (small,) = encoding.render([genome], 10)
    assert abs(image[::10, 4::10].astype(int) - small.astype(int)).max() <= 3


def test_cppn_mutations_keep_graphs_valid() -> None:
    encoding = Cppn(8, rates=dict.fromkeys(RATES, 0.9), most_nodes=12)
    generator = rng()
    genomes = encoding.random(10, generator)
    for _ in range(40):
        genomes = encoding.vary([(g, g) for g in genomes], 0, generator)
        for genome in genomes:
            hidden = len(genome) - 3
            assert genome.shape[1] == 1 + INPUTS + hidden
            assert hidden <= 12
            assert set(genome[:, 0]) <= set(range(len(FUNCTIONS)))
            assert abs(genome[:, 1:]).max() <= WEIGHT
            above = np.arange(INPUTS + hidden)[None] < INPUTS + np.arange(len(genome))[:, None]
            assert not genome[:, 1:][~above].any(), "links lead downwards only"


@pytest.mark.parametrize("name", ["add_node", "add_link", "split", "remove_link", "remove_node"])
def test_cppn_each_mutation_alone(name: str) -> None:
    generator = rng()
    parent = Cppn(8).random(1, generator)[0]
    for _ in range(3):  # two hidden nodes at least
        parent = Cppn(8, rates={**dict.fromkeys(RATES, 0.0), "split": 1.0}).vary([(parent, parent)], 0, generator)[0]
    (child,) = Cppn(8, rates={**dict.fromkeys(RATES, 0.0), name: 1.0}).vary([(parent, parent)], 0, generator)
    nodes, links = len(child) - len(parent), int((child[:, 1:] != 0).sum() - (parent[:, 1:] != 0).sum())
    expected = {"add_node": (1, 2), "add_link": (0, 1), "split": (1, 1), "remove_link": (0, -1)}
    if name == "remove_node":
        assert nodes == -1
        assert links < 0
    else:
        assert (nodes, links) == expected[name]


def test_cppn_unknown_rate() -> None:
    with pytest.raises(UserError, match="Did you mean 'add_node'"):
        Cppn(8, rates={"add_nod": 0.1})


def test_triangle_and_ellipse_are_where_they_should_be() -> None:
    triangle = np.float32([[0.1, 0.1, 0.9, 0.1, 0.1, 0.9, 1, 0, 0, 1]])
    (image,) = Shapes(40).render([triangle])
    assert image[8, 8].tolist() == [255, 0, 0]
    assert image[36, 36].tolist() == [128, 128, 128]
    turned = triangle[:, [0, 1, 4, 5, 2, 3, 6, 7, 8, 9]]
    assert np.array_equal(Shapes(40).render([turned])[0], image), "whichever way round its corners are given"
    area = (image[..., 0].astype(float) - 128).sum() / 127 / 1600
    assert area == pytest.approx(0.32, abs=0.01)
    ellipse = np.float32([[0.5, 0.5, 0.8, 0.4, 0.5, 0, 0, 0, 1, 0.5]])  # a quarter turn: upright
    (image,) = Shapes(100, kind="ellipses").render([ellipse])
    assert image[50, 50].tolist() == [64, 64, 191]
    assert image[88, 50].tolist() == [64, 64, 191]
    assert image[50, 88].tolist() == [128, 128, 128]
    assert (image[..., 2] > 160).mean() == pytest.approx(math.pi * 0.4 * 0.2, rel=0.02)


def test_shapes_grow_within_bounds_and_at_any_size() -> None:
    encoding = Shapes(16, count=3, most=5)
    generator = rng()
    genomes = encoding.random(8, generator)
    for _ in range(40):
        genomes = encoding.vary(list(zip(genomes, genomes[::-1], strict=True)), 0, generator)
        assert all(genome.min() >= 0 and genome.max() <= 1 for genome in genomes)
    assert {len(genome) for genome in genomes} <= set(range(1, 6))
    assert encoding.render(genomes[:2], 50).shape == (2, 50, 50, 3)
    with pytest.raises(UserError, match="triangles or ellipses"):
        Shapes(16, kind="squares")


def test_direct_has_one_size() -> None:
    encoding = Direct(8)
    with pytest.raises(UserError, match="8 px"):
        encoding.render(encoding.random(1, rng()), 16)
