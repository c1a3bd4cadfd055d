"""A job from its beginning to its files, and what stops it on the way."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cnnvis_cli.config.filters import FiltersConfig
from cnnvis_cli.errors import Interrupted, OutOfMemory, UserError
from cnnvis_cli.jobs import run as job_run
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.jobs.run import halved, out_of_memory_is_said, run_job
from cnnvis_cli.jobs.session import make_session


def quiet(**flags: bool) -> object:
    return make_session("cpu", quiet=True, **flags)


def test_the_record_is_written_last_and_names_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def run(config: FiltersConfig, job: Job) -> None:
        job.results.save_picture(torch.zeros(3, 4, 4))
        job.results.save_csv(["a"], [[1]], "table")
        job.scores["value"] = 1.5
        job.warn("mind this")
        seen.append(sorted(path.name for path in tmp_path.iterdir()))

    monkeypatch.setattr(job_run, "command_module", lambda command: SimpleNamespace(run=run))
    ran = run_job("filters", FiltersConfig(name="a"), tmp_path, quiet())  # type: ignore[arg-type]
    assert seen == [["a-table.csv", "a.png"]]
    values = json.loads((tmp_path / "a.json").read_text())
    assert values["files"] == ["a.png", "a-table.csv"]
    assert (values["scores"], values["warnings"], values["seed"]) == ({"value": 1.5}, ["mind this"], 0)
    assert ran.fresh
    assert not run_job("filters", FiltersConfig(name="a"), tmp_path, quiet()).fresh  # type: ignore[arg-type]
    assert len(seen) == 1
    with pytest.raises(UserError, match="zoom"):
        run_job("filters", FiltersConfig(name="a", zoom=2), tmp_path, quiet())  # type: ignore[arg-type]
    assert run_job("filters", FiltersConfig(name="a", zoom=2), tmp_path, quiet(overwrite=True)).fresh  # type: ignore[arg-type]


def test_an_error_leaves_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(config: FiltersConfig, job: Job) -> None:
        raise UserError("no")

    monkeypatch.setattr(job_run, "command_module", lambda command: SimpleNamespace(run=run))
    with pytest.raises(UserError):
        run_job("filters", FiltersConfig(name="a"), tmp_path, quiet())  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_ctrl_c_between_loops_is_told(tmp_path: Path) -> None:
    session = quiet()
    job = Job("filters", FiltersConfig(name="a"), tmp_path, session)  # type: ignore[arg-type]
    job.check_interrupt()
    session.interrupt.asked = True  # type: ignore[attr-defined]
    with pytest.raises(Interrupted):
        job.check_interrupt()


def test_memory_that_runs_out_has_one_name_and_a_batch_is_halved_to_one() -> None:
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"), torch.OutOfMemoryError("x")):
        with pytest.raises(OutOfMemory, match="smaller size or batch"), out_of_memory_is_said():
            raise error
    with pytest.raises(RuntimeError, match="else"), out_of_memory_is_said():
        raise RuntimeError("something else")
    assert halved(FiltersConfig()) is None, "a command without a batch has nothing to halve"


def test_a_sheet_of_any_shape_is_reloaded(tmp_path: Path) -> None:
    job = Job("filters", FiltersConfig(name="a"), tmp_path, quiet())  # type: ignore[arg-type]
    tall = torch.rand(3, 400, 3, generator=torch.Generator().manual_seed(0))
    saved = job.results.save_picture(tall)
    torch.testing.assert_close(saved[0], (tall * 255).round() / 255)
