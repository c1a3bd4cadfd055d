"""Freed memory is kept while the loop runs: its steps then cost the system no new pages."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from cnnvis_cli.engine.backend.malloc import freed_memory_kept

# Work like a step's: several large blocks, all freed at its end. A process of its own has nothing else on its heap.
SCRIPT = """
import resource, sys
import torch
from cnnvis_cli.engine.backend.malloc import freed_memory_kept

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [torch.ones(2 << 20) for _ in range(12)]  # 12 of 8 MiB
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = pages()
with freed_memory_kept():
    pages()
    print(before, pages())
"""
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")


@LINUX
def test_pages_are_used_again_within_the_block() -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    before, within = map(int, ran.stdout.split())
    assert within < 0.05 * before


@LINUX
def test_limits_are_as_they_were_after_the_block_and_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: dict[int, int] = {}

    class Library:
        mallopt = staticmethod(lambda name, value: limits.__setitem__(name, value))

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library)

    def fail() -> None:
        with freed_memory_kept():
            assert limits[-1] == 1 << 30
            raise ValueError("undone")

    with pytest.raises(ValueError, match="undone"):
        fail()
    assert limits[-1] == 64 << 20


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with freed_memory_kept():
        pass
