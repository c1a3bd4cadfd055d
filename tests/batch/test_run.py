"""`cnnvis run`: the same files whatever happens on the way."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cnnvis_cli.batch.run import Options, run_jobs
from cnnvis_cli.config.maximize import MaximizeConfig
from cnnvis_cli.jobs import run as job_run
from cnnvis_cli.jobs.job import Job
from tests.conftest import Ran

Run = Callable[..., Ran]
JOBS = """
defaults: {model: lenet, steps: 2, size: 28}
jobs:
  - {command: maximize, objective: "class:3", matrix: {seed: {range: [0, 3]}}}
  - {command: maximize, objective: "channel:conv1:0-3"}
"""


@pytest.fixture(autouse=True)
def _own_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.yaml"
    path.write_text(JOBS)
    return path


def contents(folder: Path) -> dict[str, object]:
    """All files with their bytes; of JSON what does not depend on the clock."""

    def read(path: Path) -> object:
        if path.suffix == ".json":
            return {key: value for key, value in json.loads(path.read_text()).items() if key != "seconds"}
        if path.suffix == ".jsonl":
            return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in path.read_text().splitlines()]
        return path.read_bytes()

    return {str(path.relative_to(folder)): read(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_second_run_does_only_what_is_missing(cnnvis: Run, jobs: Path, tmp_path: Path) -> None:
    first = cnnvis("run", jobs, "--out", "out", "--json")
    assert first.code == 0
    rows = [json.loads(line) for line in first.out.splitlines()]
    assert [row["fresh"] for row in rows] == [True] * 4
    assert all("class" in row["scores"]["objective"] for row in rows[:3])
    before = contents(tmp_path / "out")
    lost = next((tmp_path / "out/maximize").glob("*seed-1*.png"))
    lost.unlink()
    again = cnnvis("run", jobs, "--out", "out", "--json")
    assert [json.loads(line)["fresh"] for line in again.out.splitlines()].count(True) == 1
    assert contents(tmp_path / "out") == before
    assert len((tmp_path / "out/results.jsonl").read_text().splitlines()) == 4


def test_shards_together_are_the_whole(cnnvis: Run, jobs: Path, tmp_path: Path) -> None:
    cnnvis("run", jobs, "--out", "whole")
    for shard in ("2/2", "1/2"):
        assert cnnvis("run", jobs, "--out", "parts", "--shard", shard).code == 0
    whole, parts = contents(tmp_path / "whole"), contents(tmp_path / "parts")
    lines = whole.pop("results.jsonl")
    shards = [line for part in (1, 2) for line in parts.pop(f"results-{part}-of-2.jsonl")]  # type: ignore[attr-defined]
    assert parts == whole
    assert sorted(map(str, shards)) == sorted(map(str, lines))  # type: ignore[call-overload]


def test_a_result_of_another_config_is_not_lost(cnnvis: Run, jobs: Path) -> None:
    jobs.write_text(JOBS.replace("matrix:", "name: 'c{seed}', matrix:").replace('0-3"', '0-3", name: sheet'))
    cnnvis("run", jobs, "--out", "out")
    refused = cnnvis("run", jobs, "steps=1", "--out", "out")
    assert refused.code == 2
    assert refused.err.count("steps: 2, now 1") == 4
    assert cnnvis("run", jobs, "steps=1", "--out", "out", "--overwrite").code == 0


def test_failures_do_not_stop_the_others_unless_asked(cnnvis: Run, tmp_path: Path) -> None:
    path = tmp_path / "jobs.yaml"
    path.write_text(JOBS.replace("jobs:", "jobs:\n  - {command: maximize, objective: 'channel:nowhere:1', name: bad}"))
    ran = cnnvis("run", path, "--out", "out")
    assert ran.code == 1
    assert "failed: maximize out/maximize/bad.json" in ran.err
    assert len(ran.files) == 4
    rows = [json.loads(line) for line in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["failed", "done", "done", "done", "done"]
    assert "nowhere" in rows[0]["error"]
    stopped = cnnvis("run", path, "--out", "other", "--fail-fast")
    assert stopped.code == 1
    assert stopped.out == ""
    assert "4 not begun" in stopped.err


def test_dry_run_writes_nothing(cnnvis: Run, jobs: Path, tmp_path: Path) -> None:
    ran = cnnvis("run", jobs, "--out", "out", "--dry-run")
    assert ran.out.count("to do") == 4
    assert not (tmp_path / "out").exists()
    assert len(cnnvis("run", jobs, "--out", "out", "--dry-run", "--json").out.splitlines()) == 4


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--engine", "slurm"), "local or ray"),
        (("--devices", "cuda:77"), "--device cuda"),
        (("--shard", "3/2"), "I/N"),
        (("model=lenett",), "Did you mean 'lenet'"),
        (("stepz=3",), "no job's command has this key"),
        (("--out", "/dev/null/out"), "cannot write to the folder"),
        (("model=a.b:c",), "--trust-code"),
    ],
)
def test_mistakes_are_told_before_the_first_job(cnnvis: Run, jobs: Path, arguments: tuple[str, ...], told: str) -> None:
    ran = cnnvis("run", jobs, *arguments)
    assert ran.code == 2
    assert told in ran.err


def test_ray_without_the_extra_names_the_remedy(cnnvis: Run, jobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    ran = cnnvis("run", jobs, "--engine", "ray")
    assert ran.code == 2
    assert "pip install 'cnnvis[ray]'" in ran.err


def test_ray_gives_the_same_bytes(cnnvis: Run, jobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(Path(job_run.__file__).parents[2]))
    assert cnnvis("run", jobs, "--out", "ray", "--engine", "ray", "--workers", "2", "--threads", "1").code == 0
    assert cnnvis("run", jobs, "--out", "here", "--threads", "1").code == 0
    assert contents(tmp_path / "ray") == contents(tmp_path / "here")


def test_results_go_to_an_address(cnnvis: Run, jobs: Path, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    cnnvis("run", jobs, "--out", "here")
    assert cnnvis("run", jobs, "--out", f"file://{tmp_path}/there").code == 0
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    kept = cnnvis("run", jobs, "--out", f"file://{tmp_path}/there", "--json")
    assert not any(json.loads(line)["fresh"] for line in kept.out.splitlines())


def test_a_worker_that_dies_loses_only_its_job(cnnvis: Run, tmp_path: Path) -> None:
    """A network whose factory kills its process the first time, and one that always does."""
    (tmp_path / "deadly.py").write_text(
        """
import os, pathlib, signal
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

def once():
    mark = pathlib.Path("mark")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return build()

def always():
    os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    path = tmp_path / "jobs.yaml"
    path.write_text(
        """
defaults: {steps: 1, size: 28, objective: "layer:0"}
jobs:
  - {command: maximize, name: "{model}", matrix: {model: ["deadly:once", "deadly:always", "deadly:build"]}}
"""
    )
    ran = cnnvis("run", path, "--out", "out", "--workers", "2", "--trust-code")
    assert ran.code == 1
    assert ran.err.count("trying once more") == 2
    rows = [json.loads(line) for line in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["done", "failed", "done"]
    assert "SIGKILL" in rows[1]["error"]
    assert "twice" in rows[1]["error"]
    assert len(contents(tmp_path / "out")) == 2 * 2 + 1 + 1  # the lock of the job that always dies stays, and is free


def test_a_runner_killed_and_run_again_gives_the_same_files(cnnvis: Run, jobs: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(job_run.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "cnnvis_cli", "run", str(jobs), "steps=20", "--threads", "1", "--quiet"]
    process = subprocess.Popen([*command, "--workers", "2", "--out", "killed"], env=environment, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not list((tmp_path / "killed").rglob("*.json")) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list((tmp_path / "killed").rglob("*.json"))
    assert cnnvis("run", jobs, "steps=20", "--threads", "1", "--out", "killed").code == 0
    assert cnnvis("run", jobs, "steps=20", "--threads", "1", "--out", "undisturbed").code == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")


def test_two_runners_never_do_the_same_job(
    jobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs.write_text(JOBS.replace("[0, 3]", "[0, 12]"))
    done: Counter[str] = Counter()

    def run(config: MaximizeConfig, job: Job) -> None:
        done[job.name] += 1
        time.sleep(0.03)
        job.results.save_picture(torch.zeros(3, 8, 8))

    monkeypatch.setattr(job_run, "command_module", lambda command: SimpleNamespace(run=run))
    options = Options(out=str(tmp_path / "out"), quiet=True, devices=["cpu"])
    threads = [threading.Thread(target=run_jobs, args=(str(jobs), [], options)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 13
    assert set(done.values()) == {1}
    assert not list((tmp_path / "out").rglob(".*"))


def test_out_of_memory_halves_the_batch_and_goes_on(cnnvis: Run, jobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def run(config: MaximizeConfig, job: Job) -> None:
        tried.append(config.batch)
        if config.batch > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        job.results.save_picture(torch.zeros(3, 8, 8))

    monkeypatch.setattr(job_run, "command_module", lambda command: SimpleNamespace(run=run))
    ran = cnnvis("run", jobs, "--shard", "1/4", "--out", "out")
    assert ran.code == 0
    assert tried == [16, 8, 4]
    assert "out of memory; going on with batch=4" in ran.err
    sidecar = json.loads(next(Path("out").rglob("*.json")).read_text())
    assert (sidecar["config"]["batch"], sidecar["fitted_batch"]) == (16, 4)
    assert cnnvis("run", jobs, "--shard", "1/4", "--out", "out").code == 0
    assert tried == [16, 8, 4]
    monkeypatch.setattr(job_run, "command_module", lambda command: SimpleNamespace(run=lambda config, job: torch.empty(10**15)))
    assert "out of memory" in cnnvis("run", jobs, "--shard", "2/4", "--out", "out").err


def _tell_what_is_blocked(pipe: Any) -> None:
    pipe.send(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def test_a_worker_hears_nothing_of_ctrl_c_from_its_first_moment() -> None:
    """Also while it imports, when a KeyboardInterrupt would end in a traceback; this process hears as before."""
    from cnnvis_cli.batch.executors import _deaf_children

    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    with _deaf_children():
        process = context.Process(target=_tell_what_is_blocked, args=(theirs,))
        process.start()
    assert {signal.SIGINT, signal.SIGHUP} <= pipe.recv()
    process.join()
    pipe.close()
    theirs.close()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
