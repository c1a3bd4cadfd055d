"""The bundled decoder, on labelled samples: nothing it learned from."""

from __future__ import annotations

import pytest
import torch

from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.statistics import Wasserstein
from cnnvis_cli.engine.statistics.transports import OptimalTransport
from cnnvis_cli.engine.synthesis.inversion import layer_code, psnr
from cnnvis_cli.engine.synthesis.style import Region, other_layers, summarize
from cnnvis_cli.engine.synthesis.transfers import Exchange, level_targets, targets, transferred
from cnnvis_cli.networks.decoders import CodeFile, load_decoder
from cnnvis_cli.pictures.read import read, resize, sample, to_square
from cnnvis_cli.pictures.samples import labelled_samples


@pytest.fixture(scope="module")
def decoder() -> CodeFile:  # type: ignore[type-arg]
    return load_decoder("", "minivgg", torch.device("cpu"))


@torch.no_grad()
def test_every_depth_is_inverted_and_less_with_depth(decoder: CodeFile, minivgg: Network) -> None:  # type: ignore[type-arg]
    views = [to_square(read(source), 144) for source in labelled_samples()[::10]]
    means = []
    for level, layer in enumerate(decoder.levels):
        made = [decoder.network(layer_code(minivgg, layer, view), level).clamp(0, 1) for view in views]
        means.append(sum(map(psnr, made, views)) / len(views))
    assert [mean > least for mean, least in zip(means, (27, 20, 17, 15), strict=True)] == [True] * 4, means
    assert means == sorted(means, reverse=True)


@torch.no_grad()
def test_transport_brings_a_style_over(decoder: CodeFile, minivgg: Network) -> None:  # type: ignore[type-arg]
    """Of a picture that it never saw as a style, at layers where nothing was exchanged."""
    content, style = resize(read(sample("coffee")), 176, 256), resize(read(sample("hubble")), 224, 256)
    levels, transport, statistic = decoder.levels[:-1], OptimalTransport(), Wasserstein()
    goals = targets(transport, [level_targets(minivgg, style, levels)], [1.0])
    exchange = Exchange(transport, decoder.levels, frozenset(range(len(levels))), [Region(goals)])
    made = transferred(minivgg, decoder.network, content, exchange)
    layers = other_layers(minivgg, decoder.levels)
    wanted = summarize(minivgg, style, statistic, layers)

    def distance(picture: torch.Tensor) -> float:
        found = summarize(minivgg, picture, statistic, layers)
        return sum(statistic.distance(found[layer], statistic.target([wanted[layer]], [1.0])).item() for layer in layers)

    assert distance(made) < 0.6 * distance(content)
