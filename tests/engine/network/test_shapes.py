"""Shapes without values are those of PyTorch, and none of its compiler is imported for them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from cnnvis_cli.engine.network.shapes import ShapesAlone

MODULES = [
    nn.Conv2d(3, 5, 3, stride=2, padding=1),
    nn.Conv2d(3, 6, (1, 5), padding=(0, 2), dilation=(1, 2), groups=3),
    nn.Conv2d(3, 4, 3, padding="same"),
    nn.MaxPool2d(3, 2, 1),
    nn.MaxPool2d(2, ceil_mode=True),
    nn.AdaptiveAvgPool2d((2, 3)),
    nn.ReLU6(),
    nn.Sequential(nn.Flatten(), nn.Linear(3 * 17 * 20, 7), nn.GELU()),
    nn.GLU(3),
    nn.Hardsigmoid(),
]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_shapes_are_pytorchs(module: nn.Module) -> None:
    picture = torch.zeros(2, 3, 17, 20)
    with ShapesAlone():
        found = module.to("meta")(picture.to("meta"))
    assert found.is_meta
    assert found.shape == module.to_empty(device="cpu")(picture).shape


@pytest.mark.parametrize(
    "module", [nn.Conv2d(4, 5, 3), nn.MaxPool2d(40), nn.Sequential(nn.Flatten(), nn.Linear(7, 7))], ids=str
)
def test_what_does_not_fit_is_refused_as_with_values(module: nn.Module) -> None:
    with pytest.raises(RuntimeError), ShapesAlone():
        module.to("meta")(torch.zeros(2, 3, 17, 20, device="meta"))


def test_what_the_commands_import() -> None:
    """Importing torchvision or the compiler takes as long as importing torch; scikit-learn and matplotlib half of that."""
    code = """
import sys, contextlib, io, os, tempfile
os.chdir(tempfile.mkdtemp())
from cnnvis_cli.cli.app import main
def run(*words):
    with contextlib.redirect_stdout(io.StringIO()):
        try: main([*words, "-q"])
        except SystemExit as stop: assert not stop.code, words
run("saliency", "method=gradient", "score=false", "size=48")
heavy = {"torchvision", "torch._dynamo", "torch._inductor", "sympy", "matplotlib", "skimage", "sklearn", "scipy", "rich"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
run("maximize", "steps=1", "size=48")
run("dream", "steps=1", "size=64")
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_kept_result_imports_no_torch(tmp_path: object) -> None:
    code = """
import sys, os
os.chdir(sys.argv[1])
from cnnvis_cli.cli.app import main
try: main(["filters", "-q"])
except SystemExit as stop: assert not stop.code
print("torch" in sys.modules, "numpy" in sys.modules)
"""
    said = [
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    ]
    assert said[0].endswith("True True\n")
    assert said[1].endswith("False False\n")
