"""What can be known to be wrong before any work is told then, and a dry run finds it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["saliency", "image=nowhere"], "no picture 'nowhere'"),
        (["patches", "images=sample:caltech/starfsh"], "starfish"),
        (["saliency", "target=motorbik"], "motorbike"),
        (["saliency", "method=grad_cam", "layer=conv4_9"], "no layer 'conv4_9'"),
        (["maximize", "objective=channel:conv5_2:9999"], "out of range"),
        (["occlude", "target=class:elefant"], "elephant"),
        (["dream", "layers=conv1_1,conv9_9"], "conv9_9"),
        (["saliency", "model=lenet", "size=64"], "28 px only"),
        (["saliency", "weights=gone/there.pth"], "no weights file 'gone/there.pth'"),
        (["saliency", "--device", "gpu"], "no device 'gpu'"),
        (["run", "jobs/all", "--engine", "spark"], "local or ray"),
        (["run", "jobs/all", "--devices", "cpu,tpu"], "no device 'tpu'"),
    ],
)
def test_a_dry_run_finds_what_is_not_there(words: list[str], says: str, cnnvis: Callable[..., Any]) -> None:
    ran = cnnvis(*words, "--dry-run")
    assert ran.code == 2
    assert says in ran.err
    assert len(ran.err.strip().splitlines()) == 1


def test_what_is_there_passes(cnnvis: Callable[..., Any]) -> None:
    for words in (
        ["saliency", "target=motorbike"],
        ["dream", "image=noise"],
        ["maximize", "objective=class:3; prob:4"],
        ["embed"],
    ):
        ran = cnnvis(*words, "--dry-run")
        assert ran.code == 0, ran.err
        assert "command: " in ran.out


def test_a_missing_picture_is_told_without_torch() -> None:
    code = (
        "import sys\n"
        "from cnnvis_cli.cli.app import main\n"
        "try:\n    main(['saliency', 'image=nowhere.png'])\n"
        "except SystemExit as end:\n    assert end.code == 2, end.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "nowhere.png" in ran.stderr
