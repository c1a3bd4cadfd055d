"""timm's networks with what timm says of them, and torchvision's by their weights' names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cnnvis_cli.errors import UserError
from cnnvis_cli.networks.load import NetworkSpec, load_network

CPU = torch.device("cpu")
timm = pytest.importorskip("timm")


def test_timm_says_how_pictures_are_prepared_and_what_classes_are_called() -> None:
    network, _ = load_network(NetworkSpec("timm:test_resnet", "random"), CPU)
    config = timm.create_model("test_resnet", pretrained=False).pretrained_cfg
    assert network.preprocessing.mean == tuple(config["mean"])
    assert network.size == config["input_size"][1]
    assert network.preprocessing.resize == int(network.size / config["crop_pct"])
    assert network.classes[0].startswith("tench")
    assert len(network.classes) == network.class_count == 1000
    assert network.class_index("crane (134)") == 134


def test_timm_takes_a_file_with_another_head_and_names(tmp_path: Path) -> None:
    theirs = timm.create_model("test_resnet", pretrained=False, num_classes=3).eval()
    torch.save({"state_dict": theirs.state_dict(), "arch": "test_resnet"}, tmp_path / "three.pth")
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    spec = NetworkSpec("timm:test_resnet", str(tmp_path / "three.pth"), classes=str(tmp_path / "names.txt"))
    network, _ = load_network(spec, CPU)
    assert network.classes == ("a", "b", "c")
    pictures = torch.rand(1, 3, network.size, network.size)
    with torch.no_grad():
        torch.testing.assert_close(network(pictures), theirs(network.normalize(pictures)), rtol=1e-3, atol=1e-4)


def test_timm_refuses_in_one_line() -> None:
    with pytest.raises(UserError, match=r"no model 'test_resnett'. Did you mean 'test_resnet'"):
        load_network(NetworkSpec("timm:test_resnett", "random"), CPU)
    with pytest.raises(UserError, match=r"--offline, and its weights are not in the cache. Use weights=PATH") as caught:
        load_network(NetworkSpec("timm:test_efficientnet", offline=True), CPU)
    assert len(str(caught.value).splitlines()) == 1


def test_a_name_of_torchvisions_weights_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "/nowhere")
    with pytest.raises(UserError, match=r"--offline, and resnet50's weights are not in .*resnet50-0676ba61"):
        load_network(NetworkSpec("resnet50", "IMAGENET1K_V1", offline=True), CPU)
