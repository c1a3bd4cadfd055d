"""Running one job from its config to its files, and saying how it went."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from cnnvis_cli.config.base import CommandConfig
from cnnvis_cli.engine.devices import select_device
from cnnvis_cli.errors import Interrupted, OutOfMemory, RunError
from cnnvis_cli.jobs.job import Job, Session
from cnnvis_cli.pictures.write import plain
from cnnvis_cli.registry import page


def make_session(
    device: str = "auto", *, quiet: bool = False, overwrite: bool = False, offline: bool = False, trust_code: bool = False
) -> Session:
    """A session on a device. Raises UserError where the device is absent."""
    return Session(select_device(device), quiet, overwrite, offline, trust_code)


def run_job(command: str, config: CommandConfig, folder: Path, session: Session) -> tuple[Job, bool]:
    """Run one job to its sidecar. The second value is False where the result was there already.

    Where memory runs out, the batch is halved until it fits; the result stays that of `config`, and its sidecar says so.
    Raises UserError, RunError, or Interrupted once what there is has been saved.
    """
    job = Job(command, config, folder, session)
    if not job.begin():
        return job, False
    with session.interrupt.listen():
        while True:
            try:
                with out_of_memory_is_said():
                    page(command).run(job.fitted, job)
                break
            except OutOfMemory:
                smaller = halved(job.fitted)
                if smaller is None:
                    raise
                print(f"{command} {job.name}: out of memory; going on with batch={_batch(smaller)}.", file=sys.stderr)
                job = Job(command, config, folder, session, fitted=smaller)
            except KeyboardInterrupt:
                raise Interrupted("interrupted; what was not finished is lost.") from None
            # Outside the handler, where the error's traceback no longer holds what filled the memory.
            gc.collect()
            if session.device.type == "cuda":
                torch.cuda.empty_cache()
            job.begin()
        job.finish()
    return job, True


def _batch(config: CommandConfig) -> int:
    return getattr(config, "batch", None) or 1


def halved(config: CommandConfig) -> CommandConfig | None:
    """The same config with half the batch; None where it has no batch, or one of a single picture."""
    return config.model_copy(update={"batch": _batch(config) // 2}) if _batch(config) > 1 else None


@contextmanager
def out_of_memory_is_said() -> Iterator[None]:
    """Turn the ways in which memory runs out into one OutOfMemory that names the remedy."""
    remedy = "Use a smaller size or batch, or --device cpu."
    try:
        yield
    except torch.OutOfMemoryError:
        raise OutOfMemory(f"the device is out of memory. {remedy}") from None
    except MemoryError:
        raise OutOfMemory(f"out of memory. {remedy}") from None
    except RuntimeError as error:
        if "can't allocate memory" in str(error) or "out of memory" in str(error):
            raise OutOfMemory(f"out of memory. {remedy}") from None
        raise


def report(job: Job, fresh: bool, *, as_json: bool, quiet: bool) -> None:
    """Result paths on stdout (or one JSON line), the scores on stderr.

    Raises RunError where pictures had to be left out: the result is there, and the exit code says that it lacks them.
    """
    if as_json:
        line = {"command": job.command, "name": job.name, "sidecar": job.sidecar, "files": job.files, "fresh": fresh}
        print(json.dumps(plain({**line, "skipped": job.skipped, "scores": job.scores}), ensure_ascii=False), flush=True)
    else:
        for path in job.files:
            print(path, flush=True)
    if not quiet:
        if not fresh:
            print(f"{job.sidecar} is the result of this very config; kept. (--overwrite makes it anew)", file=sys.stderr)
        for key, value in job.scores.items():
            if not isinstance(value, dict | list | tuple):
                shown = f"{value:.4g}" if isinstance(value, float) else value
                print(f"  {key.replace('_', ' ')}: {shown}", file=sys.stderr)
    if job.skipped:
        _say_skipped(job)


def _say_skipped(job: Job, most: int = 10) -> None:
    reasons = list(job.skipped.values())
    for reason in reasons[:most]:
        print(f"left out: {reason}", file=sys.stderr)
    rest = f" ({len(reasons) - most} more are named in the sidecar)" if len(reasons) > most else ""
    many = len(reasons) > 1
    what = f"{len(reasons)} pictures that could not be read were" if many else "1 picture that could not be read was"
    raise RunError(f"{what} left out{rest}; the result was made without {'them' if many else 'it'}.")
