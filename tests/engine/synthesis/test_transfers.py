"""Transfers with a decoder: in strips as in one, under masks, and with no strength."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cnnvis_cli.engine.generators.decoder import Decoder, DecoderShape
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.statistics.transports import TRANSPORTS
from cnnvis_cli.engine.synthesis.style import Region
from cnnvis_cli.engine.synthesis.transfers import Exchange, level_targets, targets, transferred

LEVELS = ("relu1_1", "relu2_1", "relu3_1")


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    torch.manual_seed(1)
    return Decoder(DecoderShape((32, 64, 128), (0, 1, 1), (True,) * 3)).eval()


def exchange(network: Network, style: Tensor, method: str = "transport", **more: object) -> Exchange:
    transport = TRANSPORTS[method]()
    goals = targets(transport, [level_targets(network, style, LEVELS)], [1.0])
    return replace(Exchange(transport, LEVELS, frozenset({0, 1, 2}), [Region(goals)]), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["adain", "wct", "transport"])
def test_strips_are_the_whole(method: str, minivgg: Network, decoder: Decoder, generator: torch.Generator) -> None:
    picture, style = torch.rand(1, 3, 150, 90, generator=generator), torch.rand(1, 3, 64, 64, generator=generator)
    mask = torch.rand(150, 90, generator=generator)
    for masked in (False, True):
        asked = exchange(minivgg, style, method)
        if masked:
            asked = replace(asked, regions=[replace(asked.regions[0], mask=mask)])
        whole = transferred(minivgg, decoder, picture, replace(asked, maps={}), strip=0)
        strips = transferred(minivgg, decoder, picture, replace(asked, maps={}), strip=32)
        assert whole.shape == picture.shape
        assert (whole - strips).abs().max() < 1e-5


def test_no_strength_is_the_inversion(minivgg: Network, decoder: Decoder, generator: torch.Generator) -> None:
    picture, style = torch.rand(1, 3, 64, 64, generator=generator), torch.rand(1, 3, 64, 64, generator=generator)
    plain = decoder(level_targets(minivgg, picture, LEVELS)["relu3_1"], 2).clamp(0, 1)
    assert torch.equal(transferred(minivgg, decoder, picture, exchange(minivgg, style, strength=0.0)), plain)
    assert not torch.allclose(transferred(minivgg, decoder, picture, exchange(minivgg, style)), plain, atol=1e-2)


def test_a_picture_styled_by_itself_is_its_inversion(minivgg: Network, decoder: Decoder, generator: torch.Generator) -> None:
    picture = torch.rand(1, 3, 64, 64, generator=generator)
    plain = decoder(level_targets(minivgg, picture, LEVELS)["relu3_1"], 2).clamp(0, 1)
    own = exchange(minivgg, picture, at=frozenset({2}))
    assert torch.allclose(transferred(minivgg, decoder, picture, own), plain, atol=1e-3)


def test_where_the_mask_is_dark_the_codes_stay(minivgg: Network, decoder: Decoder, generator: torch.Generator) -> None:
    picture, style = torch.rand(1, 3, 96, 96, generator=generator), torch.rand(1, 3, 64, 64, generator=generator)
    plain = transferred(minivgg, decoder, picture, exchange(minivgg, style, strength=0.0))
    mask = torch.zeros(96, 96)
    mask[:, 64:] = 1
    asked = exchange(minivgg, style)
    made = transferred(minivgg, decoder, picture, replace(asked, regions=[replace(asked.regions[0], mask=mask)]))
    assert torch.allclose(made[..., :24], plain[..., :24], atol=1e-5)
    assert not torch.allclose(made[..., 70:], plain[..., 70:], atol=1e-2)
