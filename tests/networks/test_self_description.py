"""What a factory says about its network, in every form that people write it in, is taken, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import transforms
from torchvision.transforms._presets import ImageClassification

from cnnvis_cli.engine.network.network import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from cnnvis_cli.errors import UserError
from cnnvis_cli.networks.self_description import names_of, preprocessing_of, read_classes

HALF = Preprocessing((0.5,) * 3, (0.25,) * 3, 32, 32)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"mean": (0.5, 0.5, 0.5), "std": [0.25] * 3, "size": 32}, HALF),
        ({"mean": 0.5, "std": 0.25, "size": 32}, HALF),
        ({"mean": [0.5], "std": [0.25], "size": 32}, Preprocessing((0.5,), (0.25,), 32, 32)),
        ({"mean": np.full(3, 0.5), "std": torch.full((3,), 0.25), "size": np.int64(32)}, HALF),
        ({"mean": 127.5, "std": [63.75] * 3, "size": (32, 32)}, HALF),
        ({"mean": 0.5, "std": 0.25, "input_size": (3, 32, 32), "interpolation": "bicubic"}, HALF),
        ({"input_size": (3, 224, 224), "crop_pct": 0.875}, Preprocessing(IMAGENET_MEAN, IMAGENET_STD, 224, 256)),
        (SimpleNamespace(mean=0.5, std=0.25, size=[32]), HALF),
        (ImageClassification(crop_size=32, resize_size=40, mean=(0.5,) * 3, std=(0.25,) * 3),
         Preprocessing((0.5,) * 3, (0.25,) * 3, 32, 40)),
        (transforms.Compose([transforms.Resize(40), transforms.CenterCrop(32), transforms.ToTensor(),
                             transforms.Normalize((0.5,) * 3, (0.25,) * 3)]),
         Preprocessing((0.5,) * 3, (0.25,) * 3, 32, 40)),
        (None, Preprocessing(IMAGENET_MEAN, IMAGENET_STD, 224, 224)),
    ],
)  # fmt: skip
def test_preprocessing_in_every_form(said: Any, expected: Preprocessing) -> None:
    found, notes = preprocessing_of(said, "who")
    assert found.size == expected.size
    assert found.resize == expected.resize
    assert found.mean == pytest.approx(expected.mean)
    assert found.std == pytest.approx(expected.std)
    assert bool(notes) == (isinstance(said, dict) and said.get("mean", 0) is not None and np.max(said.get("mean", 0)) > 2)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"mean": [0.5] * 4, "std": [0.2] * 4}, "4 channels"),
        ({"mean": [0.5] * 3, "std": [0.2] * 2}, "3 means and 2"),
        ({"mean": "grey"}, "mean must be a number"),
        ({"std": 0.0}, "above 0"),
        ({"mean": 1000.0}, "range"),
        ({"size": (32, 48)}, "no square"),
        ({"size": "large"}, "size must be"),
        ({"means": 0.5}, "Did you mean 'mean'"),
    ],
)
def test_preprocessing_that_makes_no_sense_is_refused(said: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        preprocessing_of(said, "who")


@pytest.mark.parametrize(
    "said",
    [
        ["cat", "dog", "fish"],
        ("cat", "dog", "fish"),
        np.array(["cat", "dog", "fish"]),
        {0: "cat", 1: "dog", 2: "fish"},
        {"2": "fish", "0": "cat", "1": "dog"},
        {"fish": 2, "cat": 0, "dog": 1},
        {"0": ["n01", "cat"], "1": ["n02", "dog"], "2": ["n03", "fish"]},
        "cat, dog,fish",
    ],
)
def test_class_names_in_every_form(said: Any) -> None:
    names, notes = names_of(said, "who")
    assert names == ("cat", "dog", "fish")
    assert bool(notes) == isinstance(said, str)


@pytest.mark.parametrize(
    ("said", "words"), [("cat", "text"), ({0: "cat", 2: "dog"}, "1 is missing"), (7, "int"), (["", "a"], "empty")]
)
def test_class_names_that_make_no_sense_are_refused(said: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        names_of(said, "who")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "cat\ndog\n\nfish\n"),
        ("b.txt", "0 cat\n1 dog\n2 fish\n"),
        ("c.csv", "2,fish\n0,cat\n1,dog\n"),
        ("d.json", json.dumps(["cat", "dog", "fish"])),
        ("e.json", json.dumps({"0": ["n01", "cat"], "1": ["n02", "dog"], "2": ["n03", "fish"]})),
        ("f.yaml", "- cat\n- dog\n- fish\n"),
        ("g.yml", "names:\n  0: cat\n  1: dog\n  2: fish\n"),
        ("h.txt", "\ufeffcat\ndog\nfish"),
    ],
)
def test_files_of_class_names(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_classes(str(tmp_path / name)) == ("cat", "dog", "fish")


def test_a_folder_names_classes(tmp_path: Path) -> None:
    for name in ("dog", "cat", ".ipynb_checkpoints"):
        (tmp_path / name).mkdir()
    assert read_classes(str(tmp_path)) == ("cat", "dog")
    with pytest.raises(UserError, match="No such file"):
        read_classes(str(tmp_path / "gone.txt"))
