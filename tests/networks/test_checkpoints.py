"""Weights are found in files of every habit, and fitted; what is no file of weights is said to be what it is."""

from __future__ import annotations

import argparse
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cnnvis_cli.engine.network.network import Preprocessing
from cnnvis_cli.errors import UserError
from cnnvis_cli.networks.checkpoints import fit_weights, read_weights, renamed_for
from cnnvis_cli.networks.libraries import with_weights
from cnnvis_cli.networks.spec import NetworkSpec


def body(classes: int = 5) -> nn.Module:
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(3, 8, 3), norm=nn.BatchNorm2d(8), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(),
                    head=nn.Linear(8, classes))
    )  # fmt: skip


STATE: dict[str, Tensor] = body().state_dict()


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in STATE.items()}


HABITS: dict[str, Any] = {
    "plain": STATE,
    "DataParallel": prefixed("module."),
    "compiled": prefixed("_orig_mod."),
    "compiled DataParallel": prefixed("_orig_mod.module."),
    "a compiled part": {key.replace("conv.", "conv._orig_mod."): value for key, value in STATE.items()},
    "Lightning": {"state_dict": prefixed("model."), "epoch": 3, "hyper_parameters": {"lr": 0.1}},
    "Lightning, deeper": {"state_dict": prefixed("model.backbone.net.") | {"loss.weight": torch.ones(5)}},
    "tutorial": {"model_state_dict": STATE, "optimizer_state_dict": torch.optim.Adam(body().parameters()).state_dict()},
    "under net": {"net": STATE, "acc": 91.2},
    "beside a name": {"state_dict": STATE, "model": "resnet18"},
    "EMA too": {"model": {key: value + 1 for key, value in STATE.items()}, "model_ema": STATE, "best": None},
    "under a name of its own": {"classifier_weights": STATE, "lr": 0.1},
    "nested": {"checkpoint": {"model": prefixed("module.")}},
    "with arguments": {"model": STATE, "args": argparse.Namespace(lr=0.1), "path": Path("x")},
    "half": {key: value.half() if value.is_floating_point() else value for key, value in STATE.items()},
    "whole module": body(),
}
HABITS["whole module"].load_state_dict(STATE)


@pytest.mark.parametrize("habit", HABITS)
def test_weights_of_every_habit_are_read(habit: str, tmp_path: Path) -> None:
    torch.save(HABITS[habit], tmp_path / "file.pth")
    module = body()
    state = read_weights(tmp_path / "file.pth", module)
    fit_weights(module, state, "they", "mine")
    shift = 1 if habit == "EMA too" else 0
    tolerance = 1e-2 if habit == "half" else 1e-6
    for key, value in module.state_dict().items():
        assert torch.allclose(value.float(), STATE[key].float() + shift, atol=tolerance), key


def test_old_files_and_safetensors_are_read(tmp_path: Path) -> None:
    torch.save({"model": STATE, "args": argparse.Namespace()}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(prefixed("model."), tmp_path / "new.bin")
    for name in ("old.pth", "new.bin"):
        state = read_weights(tmp_path / name, body())
        assert all(torch.equal(state[key], value) for key, value in STATE.items())


def test_of_several_the_one_that_fits_is_taken(tmp_path: Path) -> None:
    torch.save({"model": nn.Linear(3, 3).state_dict(), "critic": STATE}, tmp_path / "gan.pth")
    assert read_weights(tmp_path / "gan.pth", body()).keys() == STATE.keys()
    assert set(read_weights(tmp_path / "gan.pth", nn.Linear(3, 3))) == {"weight", "bias"}


def test_names_that_lack_a_beginning_get_it() -> None:
    wrapped = nn.ModuleDict({"net": body()})
    assert renamed_for(STATE, wrapped.state_dict()).keys() == wrapped.state_dict().keys()


class Harmful:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('code was run')",)


def test_no_code_in_a_file_is_run(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "config": Harmful()}, tmp_path / "file.pth")
    assert read_weights(tmp_path / "file.pth", body()).keys() == STATE.keys()
    with (tmp_path / "bare.pth").open("wb") as file:
        pickle.dump(Harmful(), file)
    with pytest.raises(UserError, match=r"bare\.pth"):
        read_weights(tmp_path / "bare.pth", body())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html>404", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12", "Git LFS"),
        (b"", "empty"),
        (b"\x00\x01 some bytes that are nothing at all", "cannot|can be read|not a file"),
    ],
)
def test_what_is_no_file_of_weights_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        read_weights(tmp_path / "w.pth")
    assert len(str(caught.value).splitlines()) == 1
    assert "\x1b" not in str(caught.value)


def test_what_stands_in_a_file_without_weights_is_told(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "loss": 0.1}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="It holds: epoch, loss"):
        read_weights(tmp_path / "w.pth")


def test_a_head_of_another_number_of_classes_is_built_to_fit(tmp_path: Path) -> None:
    torch.save({"model": body(3).state_dict()}, tmp_path / "three.pth")
    spec, names = NetworkSpec("mine", str(tmp_path / "three.pth")), tuple("abcde")
    parts = with_weights(lambda count: body(count or 5), spec, Preprocessing(size=24), names)
    assert parts.module.head.out_features == 3
    assert parts.classes == ()
    assert "has 3 classes" in parts.notes[0]
    inside = body(3)
    inside.head = nn.Sequential(nn.Dropout(), inside.head)
    torch.save(inside.state_dict(), tmp_path / "three.pth")
    assert with_weights(lambda count: body(count or 5), spec, Preprocessing(size=24), names).module.head.out_features == 3
    assert with_weights(lambda count: body(count or 5), NetworkSpec("mine", "random"), Preprocessing(), names).classes == names
    wider = body()
    wider.conv = nn.Conv2d(3, 9, 3)
    torch.save(wider.state_dict(), tmp_path / "wider.pth")
    with pytest.raises(UserError, match=r"of another shape \(first: conv\.bias \(9,\), not \(8,\)\)"):
        with_weights(lambda count: body(count or 5), NetworkSpec("mine", str(tmp_path / "wider.pth")), Preprocessing(), names)
