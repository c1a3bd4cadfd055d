"""Sizes are found once per network and weights, and never trusted for a user's own code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cnnvis_cli.engine.network import network as networks
from cnnvis_cli.networks.load import NetworkSpec, load_network
from cnnvis_cli.networks.measured import cache_file


def test_sizes_are_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNVIS_CACHE_HOME", str(tmp_path))
    first = load_network(NetworkSpec("lenet"), torch.device("cpu"))[0].sizes
    assert first.describe() == "28 px only"
    assert len(json.loads(cache_file().read_text())) == 1

    def never(*args: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(networks, "find_sizes", never)
    assert load_network(NetworkSpec("lenet"), torch.device("cpu"))[0].sizes == first
    other = load_network(NetworkSpec("lenet", "random"), torch.device("cpu"))[0]
    with pytest.raises(AssertionError, match="asked again"):
        _ = other.sizes


def test_a_damaged_or_unwritable_cache_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNVIS_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("no folder")
    assert load_network(NetworkSpec("lenet"), torch.device("cpu"))[0].fixed_size
    monkeypatch.setenv("CNNVIS_CACHE_HOME", str(tmp_path))
    cache_file().parent.mkdir()
    cache_file().write_text('{"broken')
    assert load_network(NetworkSpec("lenet"), torch.device("cpu"))[0].fixed_size
    assert "lenet" in cache_file().read_text()
