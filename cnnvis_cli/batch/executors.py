"""Where jobs run: here, in worker processes, on a Ray cluster. Each takes jobs while it has a free place and gives results."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Protocol

from cnnvis_cli.batch.plan import Planned
from cnnvis_cli.batch.work import Finished, Flags, execute
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.progress import Interrupt


class Engine(Protocol):
    """Takes at most `places` jobs at a time."""

    places: int

    def submit(self, job: Planned) -> None:
        """Begin a job in a free place."""

    def wait(self, seconds: float) -> list[tuple[Planned, Finished]]:
        """The jobs that ended, as soon as there is one, or none after `seconds`."""

    def interrupt(self) -> None:
        """Ask the running jobs to save what there is and stop."""

    def close(self) -> None:
        """Give back what it holds."""


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_engine(kind: str, workers: int, devices: Sequence[str], flags: Flags, interrupt: Interrupt) -> Engine:
    """An engine with `workers` places, dealt out over the devices. Raises UserError where one is not there."""
    if kind == "ray":
        from cnnvis_cli.batch.ray_executor import RayEngine

        return RayEngine([devices[number % len(devices)] for number in range(workers)], flags)
    if kind != "local":
        raise UserError(f"--engine {kind}: must be local or ray.")
    if workers == 1:
        return Here(devices[0], flags, interrupt)
    return Processes([devices[number % len(devices)] for number in range(workers)], flags)


class Here:
    """In this very process, one job after the other."""

    places = 1

    def __init__(self, device: str, flags: Flags, interrupt: Interrupt) -> None:
        self._session = flags.session(device)
        self._session.interrupt = interrupt
        self._job: Planned | None = None

    def submit(self, job: Planned) -> None:
        self._job = job

    def wait(self, seconds: float) -> list[tuple[Planned, Finished]]:
        assert self._job is not None
        job, self._job = self._job, None
        return [(job, execute(job, self._session))]

    def interrupt(self) -> None:
        """The session's own interrupt has been asked already."""

    def close(self) -> None:
        """Nothing is held."""


class _Told(Interrupt):
    """A worker's: asked by its runner alone. Ctrl-C on the terminal, or its end, goes to the runner, which passes it on."""

    def __init__(self) -> None:
        super().__init__()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, frame: setattr(self, "asked", True))

    @contextmanager
    def listen(self) -> Iterator[Interrupt]:
        yield self


def _worker(pipe: Connection, device: str, flags: Flags) -> None:
    """The life of a worker process: jobs come through the pipe until it closes."""
    told = _Told()
    _die_with_the_runner()
    session = flags.session(device)
    session.interrupt = told
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        pipe.send(execute(job, session))


def _die_with_the_runner() -> None:
    """A runner that was killed leaves no workers behind that hold locks and memory."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Worker:
    """One process, the pipe to it, and the job it is at."""

    def __init__(self, device: str, flags: Flags) -> None:
        self.device = device
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.job: Planned | None = None
        self.process = context.Process(target=_worker, args=(theirs, device, flags), daemon=True)
        with _threads_in_environment(flags.threads), _deaf_children():
            self.process.start()
        theirs.close()


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes that are started here hear nothing of Ctrl-C, also not while they still import: the runner tells them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # a process of its own, at whose start these signals would be let through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _threads_in_environment(threads: int | None) -> Iterator[None]:
    """OpenMP and the like read their number of threads once, when they are loaded."""
    before = dict(os.environ)
    if threads:
        os.environ |= {key: str(threads) for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class Processes:
    """Worker processes on this machine. One that dies takes only its job with it, and is replaced."""

    def __init__(self, devices: Sequence[str], flags: Flags) -> None:
        self.places = len(devices)
        self._flags = flags
        self._workers = [_Worker(device, flags) for device in devices]

    def submit(self, job: Planned) -> None:
        worker = next(worker for worker in self._workers if worker.job is None)
        worker.job = job
        try:
            worker.pipe.send(job)
        except OSError:
            """It died while it had nothing to do; `wait` finds that out."""

    def wait(self, seconds: float) -> list[tuple[Planned, Finished]]:
        busy = {worker.pipe: worker for worker in self._workers if worker.job is not None}
        ended: list[tuple[Planned, Finished]] = []
        for pipe in wait(list(busy), seconds):
            worker = busy[pipe]  # type: ignore[index]
            job = worker.job
            assert job is not None
            try:
                ended.append((job, worker.pipe.recv()))
                worker.job = None
            except (EOFError, OSError):
                worker.process.join()
                ended.append((job, Finished("died", _last_words(worker.process.exitcode))))
                worker.pipe.close()
                self._workers[self._workers.index(worker)] = _Worker(worker.device, self._flags)
        return ended

    def interrupt(self) -> None:
        for worker in self._workers:
            if worker.process.pid is not None and worker.process.is_alive():
                os.kill(worker.process.pid, signal.SIGTERM)

    def close(self) -> None:
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            if worker.job is not None:
                worker.process.kill()
            worker.process.join(5)


def _last_words(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = " (the system does that where memory runs out; try a smaller batch or size)" if name == "SIGKILL" else ""
        return f"its worker was killed by {name}{hint}"
    return f"its worker ended with exit code {code}"
