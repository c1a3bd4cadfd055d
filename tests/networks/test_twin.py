"""The robust twin of minivgg keeps what its card says: harder to fool, and a code that says what the picture is."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from cnnvis_cli.engine.attacks.ball import pgd
from cnnvis_cli.engine.attacks.bound import Bound
from cnnvis_cli.engine.attacks.problem import Goal, Problem
from cnnvis_cli.engine.attacks.square import square
from cnnvis_cli.engine.learning.verdict import clean_accuracy, robust_accuracy
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.files.bundled import assets_folder
from cnnvis_cli.networks.load import NetworkSpec, load_network
from cnnvis_cli.pictures.find import find_pictures
from cnnvis_cli.pictures.read import read, to_square


@pytest.fixture(scope="module")
def twin() -> Network:
    return load_network(NetworkSpec("minivgg_robust"), torch.device("cpu"))[0]


@pytest.fixture(scope="module")
def photographs(twin: Network) -> tuple[Tensor, Tensor]:
    """12 labelled pictures of the test split, one of a class, as the network is judged, and their classes."""
    sources = [source for number, source in enumerate(find_pictures("sample:caltech")) if number % 8 == 0]
    pictures = torch.cat([to_square(read(source), twin.size, twin.preprocessing.resize) for source in sources])
    return pictures, torch.tensor([twin.class_index(source.label) for source in sources])


def test_its_card_keeps_the_aims(twin: Network, minivgg: Network) -> None:
    assert twin.classes == minivgg.classes
    with safe_open(assets_folder() / "minivgg_robust.safetensors", "pt") as file:
        card = file.metadata()
    scores = json.loads(card["scores"])
    assert scores["caltech101_clean"] >= 0.8 * 0.774
    assert scores["imagenette_clean"] >= 0.8 * 0.881
    assert (scores["caltech101_l2_1"] + scores["imagenette_l2_1"]) / 2 >= 0.6


def test_it_withstands_what_fools_its_twin(twin: Network, minivgg: Network, photographs: tuple[Tensor, Tensor]) -> None:
    robust = robust_accuracy(twin, *photographs, norm="l2", epsilon=1.0, steps=7)
    standard = robust_accuracy(minivgg, *photographs, norm="l2", epsilon=1.0, steps=7)
    assert robust.share >= 3 * standard.share
    assert robust.share >= 0.4
    assert clean_accuracy(twin, *photographs).share >= robust.share


def test_its_gradients_are_not_masked(twin: Network, photographs: tuple[Tensor, Tensor]) -> None:
    """The white box finds what the black one finds, and a longer way finds more."""
    pictures, labels = (values[:6] for values in photographs)

    def fooled(attack: str) -> int:
        problem = Problem(twin, pictures, Goal(labels), Bound("l2", 1.0))
        made = square(problem, queries=50) if attack == "square" else pgd(problem, steps=7)
        return int((twin(made).argmax(1) != labels).sum())

    assert fooled("pgd") >= fooled("square")
    longer = robust_accuracy(twin, pictures, labels, norm="l2", epsilon=3.0, steps=7)
    assert longer.share <= robust_accuracy(twin, pictures, labels, norm="l2", epsilon=0.5, steps=7).share
