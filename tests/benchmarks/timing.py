"""Timing two contenders fairly: in turn, in one process, so that a busy machine slows both; medians of the pairwise ratio."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@dataclass(frozen=True)
class Duel:
    """Median seconds of each, and the ratios theirs / ours (above 1: we are faster)."""

    ours: float
    theirs: float
    ratios: tuple[float, ...]

    @property
    def times_faster(self) -> float:
        return statistics.median(self.ratios)

    def __str__(self) -> str:
        low, high = min(self.ratios), max(self.ratios)
        times = f"{1e3 * self.ours:8.1f} ms against {1e3 * self.theirs:8.1f} ms"
        return f"{times}: {self.times_faster:.2f} times as fast ({low:.2f} to {high:.2f})"


def duel(ours: Callable[[], object], theirs: Callable[[], object], *, rounds: int = 7, warmup: int = 1) -> Duel:
    """Run both `rounds` times, in turn."""
    for _ in range(warmup):
        ours(), theirs()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    mine, peers = zip(*pairs, strict=True)
    ratios = tuple(their / my for my, their in pairs)
    return Duel(statistics.median(mine), statistics.median(peers), ratios)


def peak_memory(module: str, *arguments: str) -> int:
    """Peak resident MiB of `python -m MODULE ARGUMENTS` as a process of its own.

    Read from the process's own status: getrusage would count the parent's peak, which a fork inherits.
    """
    code = (
        "import re, runpy, sys; sys.argv = sys.argv[1:]; runpy.run_module(sys.argv[0], run_name='__main__');"
        "print('peak', int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, module, *arguments], capture_output=True, text=True, check=True)
    return int(done.stdout.rsplit("peak", 1)[1])
