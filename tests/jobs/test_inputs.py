"""What a job reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cnnvis_cli.config.load import build_config
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.jobs.session import Session
from cnnvis_cli.pictures import read
from cnnvis_cli.registry import config_class

Run = Callable[..., Any]


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
