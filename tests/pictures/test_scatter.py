"""Placing points on a grid: all places differ and neighbours stay neighbours."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cnnvis_cli.pictures import scatter


def test_every_point_has_a_cell_of_its_own_near_its_place() -> None:
    points = np.random.default_rng(0).normal(size=(300, 2))
    cells = scatter.place_on_grid(points)
    assert len({tuple(cell) for cell in cells.tolist()}) == 300
    assert cells.min() >= 0
    for axis, sign in ((0, 1), (1, -1)):  # rows count downwards
        assert np.corrcoef(points[:, axis], sign * cells[:, axis])[0, 1] > 0.9


def test_equal_points_and_one_point() -> None:
    assert len({tuple(cell) for cell in scatter.place_on_grid(np.zeros((5, 2))).tolist()}) == 5
    assert scatter.place_on_grid(np.zeros((1, 2))).shape == (1, 2)


def test_thumbnails_lie_at_their_points() -> None:
    points = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)]
    page = scatter.thumbnail_map(points, (Image.new("RGB", (20, 20), color) for color in colors), 10)
    right = page.width - 5
    assert [page.getpixel(at) for at in ((5, right), (right, 5), (5, 5), (right, right))] == colors


def test_scatter_shows_each_class_in_a_colour_of_its_own() -> None:
    random = np.random.default_rng(0)
    for classes in (1, 3, 30):
        labels = [f"class {i % classes}" for i in range(90)]
        image = scatter.scatter(
            [("a", random.normal(size=(90, 2))), ("b", random.normal(size=(90, 2)))], labels, side=3, dpi=60
        )
        assert image.mode == "RGB"
        assert image.width > 1.7 * image.height
    assert len(set(scatter._shades(30))) == 30


def test_thumbnails_at_their_true_places_framed_in_their_labels_colours() -> None:
    points = np.array([[0.0, 0.0], [4.0, 2.0], [1.0, 1.0]])
    colors = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    pictures = [Image.new("RGB", (30, 30), color) for color in colors]
    page = scatter.thumbnails_at(points, pictures, 24, page=1500)
    assert page.size == (1500, 1500)
    scale = (1500 - 24) / 4
    for (x, y), color in zip(points, colors, strict=True):
        assert page.getpixel((round(750 + (x - 2) * scale), round(750 - (y - 1) * scale))) == color
    framed = scatter.thumbnails_at(points, pictures, 24, [f"class {i}" for i in range(30)][:3], page=1500)
    edges = {framed.getpixel((round(750 + (x - 2) * scale) - 12, round(750 - (y - 1) * scale) - 12)) for x, y in points}
    assert len(edges) == 3
