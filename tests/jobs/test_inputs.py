"""What a job reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cnnvis_cli.config.load import build_config
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.jobs.session import Session
from cnnvis_cli.pictures import read
from cnnvis_cli.registry import config_class

Run = Callable[..., Any]


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Three classes that differ in colour, and a bright square in each picture at a place of its own."""
    folder, random = tmp_path / "collection", np.random.default_rng(0)
    for label, color in (("red", (150, 20, 20)), ("green", (20, 150, 20)), ("blue", (20, 20, 150))):
        (folder / label).mkdir(parents=True)
        for number in range(5):
            values = np.clip(np.array(color) + random.normal(0, 12, (100, 100, 3)), 0, 255).astype(np.uint8)
            y, x = random.integers(10, 70, 2)
            values[y : y + 16, x : x + 16] = 255
            Image.fromarray(values).save(folder / label / f"{number}.png")
    return folder


def test_a_stream_gives_every_picture_once_in_order(cnnvis: Run, collection: Path) -> None:
    settings = {"images": str(collection), "layer": "relu1_1", "channel": "0", "count": 1}
    job = Job("patches", build_config(config_class("patches"), settings), Path("out"), Session(torch.device("cpu"), quiet=True))
    sources = read.find_pictures(str(collection))
    (collection / "blue" / "4.png").write_text("no picture")
    with job.track("reading", len(sources)) as bar:
        parts = list(job.inputs.stream(sources, 32, batch=4, bar=bar))
    assert [len(found) for found, _ in parts] == [4, 4, 4, 2]
    assert [source for found, _ in parts for source in found] == [s for s in sources if s.path != collection / "blue" / "4.png"]
    assert all(squares.shape == (len(found), 3, 32, 32) for found, squares in parts)
    assert list(job.inputs.skipped) == [str(collection / "blue" / "4.png")]
