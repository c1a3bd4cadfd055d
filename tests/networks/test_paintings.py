"""The bundled stylizer keeps what its card says, on photographs it never saw."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.statistics import Wasserstein
from cnnvis_cli.engine.synthesis.pass_scores import blob, checkerboard
from cnnvis_cli.engine.synthesis.passes import stylized
from cnnvis_cli.engine.synthesis.style import other_layers, summarize
from cnnvis_cli.networks.stylizers import StylizerFile, load_stylizer
from cnnvis_cli.pictures.read import resize
from tests.conftest import Ran

NAMES = ["starry_night", "great_wave", "composition_vii", "shipwreck"]


@pytest.fixture(scope="module")
def paintings() -> StylizerFile:
    return load_stylizer("paintings", torch.device("cpu"))


def paint(file: StylizerFile, picture: Tensor, style: int) -> Tensor:
    made = stylized(file.network, picture, torch.eye(4)[style : style + 1])  # type: ignore[arg-type]
    return (made * 255).round() / 255


def test_it_knows_four_paintings_by_name(paintings: StylizerFile) -> None:
    assert [style.name for style in paintings.styles] == NAMES
    assert paintings.card["kind"] == "stylizer"
    assert all(max(style.picture().shape[-2:]) == 320 for style in paintings.styles)


def test_each_is_recognized_among_the_four(paintings: StylizerFile, photographs: list[Tensor], minivgg: Network) -> None:
    layers, statistic = other_layers(minivgg, paintings.card["style_layers"]), Wasserstein()
    targets = []
    for style in paintings.styles:
        picture = style.picture()
        found = summarize(minivgg, resize(picture, *(round(n * 288 / 320) for n in picture.shape[-2:])), statistic, layers)
        targets.append({layer: statistic.target([found[layer]], [1.0]) for layer in layers})
    for style in range(4):
        hits = 0
        for picture in photographs:
            own = summarize(minivgg, paint(paintings, picture, style), statistic, layers)
            distances = [sum(statistic.distance(own[layer], one[layer]).item() for layer in layers) for one in targets]
            hits += distances.index(min(distances)) == style
        assert hits >= 0.75 * len(photographs), NAMES[style]


def test_no_lattice_and_no_blobs(paintings: StylizerFile, photographs: list[Tensor]) -> None:
    for style in range(4):
        made = [checkerboard(paint(paintings, picture, style)) for picture in photographs]
        plain = [checkerboard(picture) for picture in photographs]
        assert sum(made) < 1.1 * sum(plain), NAMES[style]
        for level in (0.05, 0.5, 0.98):
            assert blob(paint(paintings, torch.full((1, 3, 144, 144), level), style)) < 3
            assert paint(paintings, torch.full((1, 3, 144, 144), level), style).std((2, 3)).max() < 0.1


def test_it_is_one_word_to_type(cnnvis: Callable[..., Ran]) -> None:
    ran = cnnvis("style", "stylizer=paintings", "style=great_wave", "content=sample:coffee", "size=256", "-q")
    assert ran.code == 0, ran.err
    scores = ran.sidecar["scores"]
    assert scores["style_distance"] < scores["style_distance_of_content"]
    assert scores["pass_seconds"] > 0
