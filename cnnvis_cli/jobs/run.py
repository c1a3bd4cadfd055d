"""Running one job from its config to its files."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from cnnvis_cli.config.base import CommandConfig
from cnnvis_cli.errors import Interrupted, OutOfMemory
from cnnvis_cli.files.atomic import make_folder
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.jobs.kept import result_name
from cnnvis_cli.jobs.lock import waited_for
from cnnvis_cli.jobs.report import Ran
from cnnvis_cli.jobs.session import Session
from cnnvis_cli.networks.user_code import prints_to_stderr
from cnnvis_cli.registry import command_module


def run_alone(command: str, config: CommandConfig, folder: Path, session: Session) -> Ran:
    """`run_job`, once no other process is at the same result."""
    make_folder(folder)

    def say(message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    with session.interrupt.listen(), waited_for(folder, result_name(config), say, session.interrupt):
        return run_job(command, config, folder, session)


def run_job(command: str, config: CommandConfig, folder: Path, session: Session) -> Ran:
    """Run one job to its record, unless it lies there already.

    Where memory runs out, the batch is halved until it fits; the result stays that of `config`, and its record says so.
    Raises UserError, RunError, or Interrupted once what there is has been saved.
    """
    job, fitted = Job(command, config, folder, session), config
    if not job.begin():
        return Ran(job.record, folder, fresh=False)
    with session.interrupt.listen():
        while True:
            try:
                with out_of_memory_is_said(job), prints_to_stderr():
                    command_module(command).run(fitted, job)
                break
            except OutOfMemory:
                if (smaller := halved(fitted)) is None:
                    raise
                fitted = smaller
                print(f"{command} {job.name}: out of memory; going on with batch={_batch(fitted)}.", file=sys.stderr)
                job = Job(command, config, folder, session, fitted=fitted)
            except KeyboardInterrupt:
                raise Interrupted("interrupted; what was not finished is lost.") from None
            # Outside the handler, where the error's traceback no longer holds what filled the memory.
            gc.collect()
            if session.device.type == "cuda":
                torch.cuda.empty_cache()
            job.begin()
        job.finish()
    return Ran(job.record, folder, fresh=True)


def _batch(config: CommandConfig) -> int:
    return getattr(config, "batch", None) or 1


def halved(config: CommandConfig) -> CommandConfig | None:
    """The same config with half the batch; None where it has no batch, or one of a single picture."""
    return config.model_copy(update={"batch": _batch(config) // 2}) if _batch(config) > 1 else None


@contextmanager
def out_of_memory_is_said(job: Job | None = None) -> Iterator[None]:
    """Turn the ways in which memory runs out into one OutOfMemory that names the picture at hand and the remedy."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        device = isinstance(error, torch.OutOfMemoryError)
        if isinstance(error, RuntimeError) and not device and not _no_memory(error):
            raise
        picture = f" at {job.inputs.last}" if job is not None and job.inputs.last else ""
        where = "the device is out of memory" if device else "out of memory"
        raise OutOfMemory(f"{where}{picture}. Use a smaller size or batch, or --device cpu.") from None


def _no_memory(error: RuntimeError) -> bool:
    return "can't allocate memory" in str(error) or "out of memory" in str(error)
