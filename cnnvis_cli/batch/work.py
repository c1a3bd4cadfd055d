"""Doing one job: under a lock, with all that can go wrong turned into a result. Runs in every worker, on every engine."""

from __future__ import annotations

import os
import traceback
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from cnnvis_cli.batch.places import is_address, local_copy, read_result
from cnnvis_cli.batch.plan import Planned
from cnnvis_cli.errors import ChangedError, Interrupted, RunError, UserError, in_words
from cnnvis_cli.jobs.lock import locked
from cnnvis_cli.jobs.run import run_job
from cnnvis_cli.jobs.session import Session, make_session

# busy: another runner is at it. died: its worker was killed. They are tried again.
Status = Literal["done", "kept", "failed", "interrupted", "busy", "died"]


@dataclass(frozen=True)
class Finished:
    """How a job ended."""

    status: Status
    error: str = ""
    files: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Flags:
    """What every worker is told when it starts."""

    overwrite: bool = False
    offline: bool = False
    trust_code: bool = False
    threads: int | None = None
    folder: str = ""  # where the runner was started, for package.module:factory

    def session(self, device: str) -> Session:
        if self.threads:
            torch.set_num_threads(self.threads)
        return make_session(device, quiet=True, overwrite=self.overwrite, offline=self.offline, trust_code=self.trust_code)


def execute(job: Planned, session: Session) -> Finished:
    """Do one job. Never raises, whatever happens in it."""
    try:
        alone = nullcontext(True) if is_address(job.folder) else locked(Path(job.folder), job.name)
        with alone as ours:
            if not ours:
                return Finished("busy")
            return _execute(job, session)
    except (Interrupted, KeyboardInterrupt) as error:
        return Finished("interrupted", str(error))
    except (UserError, ChangedError, RunError) as error:
        return Finished("failed", "\n".join(in_words(error)))
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return Finished("failed", traceback.format_exc() if os.environ.get("CNNVIS_DEBUG") else text)


def _execute(job: Planned, session: Session) -> Finished:
    if is_address(job.folder) and not session.overwrite:
        old = read_result(job.folder, job.name)
        if old is not None and old.complete and old.record.config_hash == job.hash:
            return Finished("kept", files=[f"{job.folder}/{file}" for file in old.record.files])
    with local_copy(job.folder) as (folder, bring):
        ran = run_job(job.command, job.config, folder, session)
        bring([*ran.files, ran.record_file])
        return Finished("done" if ran.fresh else "kept", files=[f"{job.folder}/{file}" for file in ran.record.files])


def row_of(job: Planned, finished: Finished) -> dict[str, Any]:
    """The line of results.jsonl."""
    row: dict[str, Any] = {"command": job.command, "name": job.name, "sidecar": job.sidecar, "config_hash": job.hash}
    if finished.status not in ("done", "kept"):
        return {**row, "status": finished.status, "error": finished.error}
    result = read_result(job.folder, job.name)
    if result is None:
        return {**row, "status": "done"}
    record = result.record
    found = {"files": record.files, "scores": record.scores, "device": record.device, "seconds": record.seconds}
    return {**row, "status": "done", **found}
