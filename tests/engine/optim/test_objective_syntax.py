"""The objective language: what it means, and what it says to a mistake."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cnnvis_cli.engine.attribution.targets import resolve_target
from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.network import Network, Preprocessing
from cnnvis_cli.engine.optim.objective_syntax import parse_objectives


def value(network: Network, text: str, images: Tensor) -> Tensor:
    (objective,) = parse_objectives(text, network)
    return objective(activations(network, images, objective.layers))


def test_atoms_are_what_they_say(minivgg: Network, images: Tensor) -> None:
    maps = activations(minivgg, images, ["conv3_1"])["conv3_1"]
    logits = minivgg(images)
    elephant = minivgg.class_index("elephant")
    assert torch.allclose(value(minivgg, "channel:conv3_1:5", images), maps[:, 5].mean((1, 2)))
    assert torch.allclose(value(minivgg, "neuron:conv3_1:5:2:7", images), maps[:, 5, 2, 7])
    assert torch.allclose(value(minivgg, "neuron:conv3_1:5", images), maps[:, 5, 8, 8])
    assert torch.allclose(value(minivgg, "layer:conv3_1", images), 0.5 * maps.square().mean((1, 2, 3)))
    assert torch.allclose(value(minivgg, "class:elephant", images), logits[:, elephant], atol=1e-4)
    assert torch.allclose(value(minivgg, "prob:Elephant", images), logits.log_softmax(1)[:, elephant], atol=1e-4)
    with pytest.raises(UserError, match="16 x 16 positions"):
        value(minivgg, "neuron:conv3_1:5:16:0", images)
    weights = [0.0] * 128
    weights[3], weights[4] = 3.0, 4.0
    along = (3 * maps[:, 3] + 4 * maps[:, 4]).mean((1, 2)) / 5
    text = "direction:conv3_1:" + ",".join(map(str, weights))
    assert torch.allclose(value(minivgg, text, images), along, atol=1e-5)


def test_sums_weights_and_signs(minivgg: Network, images: Tensor) -> None:
    maps = activations(minivgg, images, ["conv4_1"])["conv4_1"].mean((2, 3))
    found = value(minivgg, "channel:conv4_1:17 - 0.5*channel:conv4_1:3 + 2*channel:conv4_1:1", images)
    assert torch.allclose(found, maps[:, 17] - 0.5 * maps[:, 3] + 2 * maps[:, 1], atol=1e-6)
    assert torch.allclose(value(minivgg, "-channel:conv4_1:17", images), -maps[:, 17])


def test_ranges_and_several(minivgg: Network) -> None:
    assert len(parse_objectives("channel:conv3_1:0-63", minivgg)) == 64
    assert [o.label for o in parse_objectives("channel:conv3_1:1,5-6", minivgg)] == [f"channel:conv3_1:{i}" for i in (1, 5, 6)]
    assert len(parse_objectives("class:elephant; class:water lily;class:7", minivgg)) == 3
    assert len(parse_objectives("channel:conv3_1:0-3 - channel:conv3_1:9", minivgg)) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no objective"),
        ("chanel:conv3_1:1", "begins with one of channel:"),
        ("channel:conv3_9:1", "Did you mean 'conv3_"),
        ("channel:conv3_1:128", "there are 128, counted from 0 to 127"),
        ("channel:conv3_1:-1", "no channel of conv3_1"),
        ("channel:conv3_1", "lacks the channel"),
        ("class:elefant", "Did you mean 'elephant'"),
        ("class:111", "counted from 0 to 110"),
        ("neuron:conv3_1:0:5", "ROW:COLUMN"),
        ("direction:conv3_1:1,2", "has 2 numbers; conv3_1 has 128"),
        ("channel:conv3_1:0-3 - channel:conv3_1:0-2", "equally long"),
        ("1.2.3*class:0", "'1.2.3' is no weight"),
        ("1e999*class:0", "too large"),
        ("direction:conv3_1:1-2", "'1-2' is no number"),
        ("direction:conv3_1:" + ",".join(["1e60"] * 128), "finite"),
        ("channel:conv3_1:²", "no channel of conv3_1"),
        ("class:²", "knows no class '²'"),
        ("neuron:conv3_1:0:²:1", "ROW:COLUMN"),
        ("layer:conv3_1:3:4", "goes on after what a layer is named by: ':3:4'"),
        ("channel:conv3_1:3:4", "goes on after what a channel is named by: ':4'"),
        ("channel:conv3_1:" + "9" * 50_000, "no channel of conv3_1"),
        ("class:" + "x" * 50_000, "knows no class"),
        ("layer:" + "x" * 50_000, "no layer"),
        ("'" * 50_000, "50,000 characters"),
        ("x" * 200_000, "200,000 characters"),
        ("class:1; \0" + "7\0", "no objective"),
        (" + ".join(["class:1"] * 2000), "2000 terms"),
        ("channel:conv3_1:" + ",".join(["0-127"] * 2000), "too many"),
    ],
)
def test_mistakes_are_named(minivgg: Network, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse_objectives(text, minivgg)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_class_names_with_marks_stand_in_quotes() -> None:
    names = ["salt; pepper", "a - b", "ratio 1:2", "bird's nest", "hen's egg"]
    network = Network.frozen("named", torch.nn.Sequential(torch.nn.Conv2d(3, 5, 1)), Preprocessing(size=8), names)
    text = """class:"salt; pepper" - 0.5*class:'a - b'; class:"ratio 1:2"; class:bird's nest; class:hen's egg"""
    labels = [objective.label for objective in parse_objectives(text, network)]
    assert labels == ["class:salt; pepper - 0.5*class:a - b", *(f"class:{name}" for name in names[2:])]
    for index, name in enumerate(names):
        assert resolve_target(f'"{name}"', network, torch.zeros(1, 3, 8, 8)).index == index
        assert resolve_target(name, network, torch.zeros(1, 3, 8, 8)).index == index
