"""A user's own factory: found or not in one line, its prints and exits kept from stdout and from us."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cnnvis_cli.errors import UserError
from cnnvis_cli.networks.load import NetworkSpec, load_network

MODULE = """
import sys
import torch
from torch import nn
print("importing")
def body(classes=4, channels=3):
    return nn.Sequential(nn.Conv2d(channels, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes))
def said(**more):
    net = body()
    net.preprocessing = {"mean": 0.5, "std": 0.25, "size": 24}
    for key, value in more.items():
        setattr(net, key, value)
    return net
def make(): print("building"); return said(classes=["a", "b", "c", "d"])
def few(): return said(classes=["a", "b"])
def twins(): return said(classes=["crane", "b", "crane", "d"])
def silent(): return nn.Sequential(nn.Conv2d(3, 2, 5), nn.Flatten(), nn.Linear(2 * 28 * 28, 4))
def breaks(): raise KeyError("no such thing")
def leaves(): sys.exit(3)
def wants(argument): return body()
def number(): return 7
class Speaks(nn.Module):
    preprocessing = {"mean": 0.5, "std": 0.25, "size": 24}
    def __init__(self):
        super().__init__()
        self.net = body()
    def forward(self, x):
        print("shape", x.shape)
        return self.net(x)
ready = said()
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "factory_for_tests.py").write_text(MODULE)

    def run(name: str, module: str = "factory_for_tests", **more: Any) -> Any:
        spec = NetworkSpec(f"{module}:{name}", **{"trust_code": True, **more})
        return load_network(spec, torch.device("cpu"))[0]

    return run


def test_what_it_says_is_used_and_what_it_prints_is_not_ours(load: Any, capsys: pytest.CaptureFixture[str]) -> None:
    network = load("make")
    assert network.classes == ("a", "b", "c", "d")
    assert (network.size, network.preprocessing.mean) == (24, (0.5,) * 3)
    load("Speaks")(torch.rand(1, 3, 24, 24))
    out, err = capsys.readouterr()
    assert "building" in err
    assert "building" not in out
    assert load("ready").size == 24


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mak", "has no 'mak'. Did you mean 'make'"),
        ("breaks", "KeyError: 'no such thing' (factory_for_tests.py, line"),
        ("leaves", "SystemExit: 3 (factory_for_tests.py"),
        ("wants", "TypeError: wants() missing 1 required positional argument"),
        ("number", "gave a int"),
        ("few", "2 class names (a, ...) for 4 answers. classes=FILE"),
        ("silent", "takes 32 px (it says nothing of its pictures: ImageNet's mean and std and 224 px are assumed)"),
    ],
)
def test_mistakes_are_one_line(load: Any, name: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        load(name)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("factory_for_tests.py", "did you mean 'factory_for_tests:make'"),
        ("models/mine.py", "did you mean 'mine:make' in the folder models"),
        ("factory_for_test", "Did you mean 'factory_for_tests'"),
    ],
)
def test_a_module_that_is_named_wrongly(load: Any, module: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        load("make", module)
    assert words in str(caught.value)


def test_no_code_without_trust(load: Any) -> None:
    with pytest.raises(UserError, match="--trust-code"):
        load("make", trust_code=False)


def test_names_come_from_a_file_and_twins_are_told_apart(load: Any, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("w\nx\ny\nz\n")
    assert load("make", classes="names.txt").classes == ("w", "x", "y", "z")
    network = load("twins")
    assert network.classes == ("crane (0)", "b", "crane (2)", "d")
    assert any("told apart" in note for note in network.notes)
    assert network.class_index("crane (2)") == 2
    with pytest.raises(UserError, match=r"2 classes called 'crane': 0 \(crane \(0\)\), 2"):
        network.class_index("crane")
