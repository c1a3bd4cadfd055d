"""What a class's logit is taken against."""

from __future__ import annotations

import pytest
import torch

from cnnvis_cli.commands.shared.asked import objectives_of
from cnnvis_cli.config.load import build_config
from cnnvis_cli.config.maximize import MaximizeConfig
from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.layers import OUTPUT
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.errors import ConfigError


def values(network: Network, **settings: object) -> list[float]:
    pictures = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    found = activations(network, pictures, [OUTPUT, "relu1_1"])
    config = build_config(MaximizeConfig, settings)
    return [objective.value(found)[0].item() for objective in objectives_of(config, network)]


def test_others_take_their_mean_from_a_logit_and_leave_all_else(minivgg: Network) -> None:
    asked = "class:elephant; contrast:elephant; prob:elephant; channel:relu1_1:0"
    plain = values(minivgg, objective=asked, against="none")
    others = values(minivgg, objective=asked, against="others")
    assert others[0] == pytest.approx(plain[1])
    assert others[0] != pytest.approx(plain[0], abs=0.01)
    assert others[1:] == plain[1:]


def test_weights_signs_and_ways_between_two_stay_what_they_are(minivgg: Network) -> None:
    (twice,) = values(minivgg, objective="2*class:elephant", against="others")
    (once,) = values(minivgg, objective="class:elephant", against="others")
    assert twice == pytest.approx(2 * once)
    (less,) = values(minivgg, objective="class:elephant", against="others", maximize=False)
    assert less == pytest.approx(-once)
    way = values(minivgg, objective="class:elephant; class:face", against="others", interpolate=1)
    assert way[1] == pytest.approx((way[0] + way[2]) / 2)


def test_each_term_of_a_sum_is_taken_against_the_others(minivgg: Network) -> None:
    asked = "class:elephant - 0.5*class:face + channel:relu1_1:0; -class:elephant; class:'elephant'"
    plain = asked.replace("class:", "contrast:")
    assert values(minivgg, objective=asked, against="others") == values(minivgg, objective=plain)


def test_a_canvas_draws_a_class_against_the_others_unless_told_not_to() -> None:
    assert build_config(MaximizeConfig, {"objective": "class:elephant"}).against_others
    assert not build_config(MaximizeConfig, {"objective": "class:elephant", "against": "none"}).against_others
    assert not build_config(MaximizeConfig, {"objective": "class:elephant", "size": 96}).against_others
    assert build_config(MaximizeConfig, {"objective": "class:'1+1; z'"}).against_others


@pytest.mark.parametrize("objective", ["channel:conv3_1:0", "contrast:elephant", "prob:elephant", "contrast:'class: 3'"])
@pytest.mark.parametrize("against", ["none", "others"])
@pytest.mark.parametrize("preset", ["olah2017", "fel2023"])
def test_it_is_refused_where_no_logit_is_asked_for(objective: str, against: str, preset: str) -> None:
    with pytest.raises(ConfigError, match="against has no effect"):
        build_config(MaximizeConfig, {"objective": objective, "against": against, "preset": preset})
