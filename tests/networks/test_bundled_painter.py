"""The bundled painter keeps what its card says, on photographs it never saw."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.statistics import Wasserstein
from cnnvis_cli.engine.synthesis.pass_scores import blob, checkerboard, outline
from cnnvis_cli.engine.synthesis.passes import stylized
from cnnvis_cli.engine.synthesis.style import other_layers, summarize
from cnnvis_cli.networks.load import load_network
from cnnvis_cli.networks.spec import NetworkSpec
from cnnvis_cli.networks.stylizers import StylizerFile, load_stylizer
from cnnvis_cli.pictures.read import read, resize, sample

PAINTINGS = ("starry_night", "great_wave", "composition_vii", "shipwreck")


@pytest.fixture(scope="module")
def painter() -> StylizerFile:
    return load_stylizer("painter", torch.device("cpu"))


def paint(file: StylizerFile, picture: Tensor) -> Tensor:
    return (stylized(file.network, picture, torch.ones(1, 1)) * 255).round() / 255  # type: ignore[arg-type]


def test_it_knows_one_artist(painter: StylizerFile) -> None:
    assert [style.name for style in painter.styles] == ["starry_night"]
    assert painter.card["recipe"]["kind"] == "painter"


def test_its_pictures_are_nearer_to_its_painting_than_to_others(
    painter: StylizerFile, photographs: list[Tensor], minivgg: Network
) -> None:
    layers, statistic = other_layers(minivgg, painter.card["style_layers"]), Wasserstein()
    targets = []
    for name in PAINTINGS:
        picture = read(sample(name))
        factor = 288 / max(picture.shape[-2:])
        found = summarize(minivgg, resize(picture, *(round(n * factor) for n in picture.shape[-2:])), statistic, layers)
        targets.append({layer: statistic.target([found[layer]], [1.0]) for layer in layers})

    def distances(picture: Tensor) -> list[float]:
        own = summarize(minivgg, picture, statistic, layers)
        return [sum(statistic.distance(own[layer], one[layer]).item() for layer in layers) for one in targets]

    found = [distances(paint(painter, picture)) for picture in photographs]
    assert sum(min(one) == one[0] for one in found) > 0.9 * len(found)
    before = [distances(picture)[0] for picture in photographs]
    assert sum(one[0] for one in found) < 0.35 * sum(before)


def test_what_is_shown_stays_that_photograph(painter: StylizerFile, photographs: list[Tensor]) -> None:
    minivgg_robust, _ = load_network(NetworkSpec("minivgg_robust"), torch.device("cpu"))
    outlines = torch.cat([outline(minivgg_robust, picture, "relu4_2") for picture in photographs])
    made = torch.cat([outline(minivgg_robust, paint(painter, picture), "relu4_2") for picture in photographs])
    likeness = made @ outlines.T
    own = likeness.diagonal()
    others = (likeness - 2 * torch.eye(len(likeness))).max(1).values
    assert (own > others).all()
    assert own.mean() > 2 * others.mean()


def test_no_lattice_and_no_blobs(painter: StylizerFile, photographs: list[Tensor]) -> None:
    made = [checkerboard(paint(painter, picture)) for picture in photographs]
    assert sum(made) < 1.5 * sum(checkerboard(picture) for picture in photographs)
    for level in (0.05, 0.5, 0.98):
        flat = paint(painter, torch.full((1, 3, 144, 144), level))
        assert blob(flat) < 3
        assert flat.std((2, 3)).max() < 0.1
