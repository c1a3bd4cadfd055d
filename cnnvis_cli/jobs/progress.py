"""How a run is followed on stderr: a bar on a terminal, a plain line every few seconds elsewhere. And how it is stopped."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Task:
    """One bar. `advance(done, note)`: how far it is, and a word on how it goes (the objective)."""

    def advance(self, done: int, note: str = "", total: int | None = None) -> None:
        """Say that `done` of the total are done; `total`: what that has become, where it was not known before."""


class _Plain(Task):
    def __init__(self, label: str, total: int, every: float = 5.0) -> None:
        self._label, self._total, self._every = label, total, every
        self._began = self._last = time.monotonic()
        self._first: int | None = None  # what was done before: a run that goes on does not begin at 0

    def advance(self, done: int, note: str = "", total: int | None = None) -> None:
        now = time.monotonic()
        self._first = done - 1 if self._first is None else self._first
        self._total = total or self._total
        if now - self._last < self._every:
            return
        self._last = now
        left = (now - self._began) / max(done - self._first, 1) * (self._total - done)
        print(f"{self._label}: {done}/{self._total}  {note}  {left:.0f} s left", file=sys.stderr, flush=True)


@contextmanager
def track(label: str, total: int, *, quiet: bool = False) -> Iterator[Task]:
    """A bar for the length of the block."""
    if quiet:
        yield Task()
    elif not sys.stderr.isatty():
        yield _Plain(label, total)
    else:
        with _rich_bar(label, total) as task:
            yield task


@contextmanager
def _rich_bar(label: str, total: int) -> Iterator[Task]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        number = bar.add_task(label, total=total, note="")

        class Bar(Task):
            def advance(self, done: int, note: str = "", total: int | None = None) -> None:
                bar.update(number, completed=done, note=note, total=total)

        yield Bar()


class Interrupt:
    """Whether Ctrl-C (SIGTERM, SIGHUP) came. The first asks the run to stop where it can be resumed; a second one kills it."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        return self.asked

    @contextmanager
    def listen(self) -> Iterator[Interrupt]:
        """Catch the signals for the length of the block (only the main thread can)."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return

        def handle(number: int, frame: FrameType | None) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True
            print("stopping after this step (Ctrl-C again to stop at once) ...", file=sys.stderr, flush=True)

        before = {number: signal.signal(number, handle) for number in _signals()}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _signals() -> list[signal.Signals]:
    """Those that ask a run to stop. A hangup that is ignored already (`nohup`) stays so."""
    asking = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        asking.append(signal.SIGHUP)
    return asking
