"""Torchvision's networks are built as torchvision builds them for its pretrained weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models._api import WeightsEnum

from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.networks.load import NetworkSpec, load_network


def random_weights(name: str) -> dict[str, Tensor]:
    """All that a file of pretrained weights holds, of useful scale."""
    torch.manual_seed(0)
    module = torchvision.models.get_model(name, weights=None, aux_logits=True, init_weights=False)
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight, nonlinearity="relu")
    return module.state_dict()


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
@pytest.mark.filterwarnings("ignore")
def test_pretrained_inceptions_transform_their_input(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = random_weights(name)
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *_, **__: state)
    theirs = torchvision.models.get_model(name, weights="DEFAULT").eval()
    torch.save(state, tmp_path / "whole.pth")
    torch.save({key: value for key, value in state.items() if not key.startswith(("aux", "Aux"))}, tmp_path / "headless.pth")
    pictures = torch.rand(2, 3, 160, 160)
    for weights in ("", str(tmp_path / "whole.pth"), str(tmp_path / "headless.pth")):
        network: Network = load_network(NetworkSpec(name, weights), torch.device("cpu"))[0]
        with torch.no_grad():
            wanted = theirs(network.normalize(pictures).contiguous())
            assert (network(pictures) - wanted).abs().max() < 1e-4 * wanted.std()
        assert not any("aux" in layer.lower() for layer in network.layers)
