"""Freed memory is kept by a process that asked for it: its steps then cost the system no new pages."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from cnnvis_cli.engine.backend.malloc import keep_freed_memory

# Work like a step's: several large blocks, all freed at its end. A process of its own has nothing else on its heap.
SCRIPT = """
import resource, sys
import torch
from cnnvis_cli.engine.backend.malloc import keep_freed_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [torch.ones(2 << 20) for _ in range(12)]  # 12 of 8 MiB
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = pages()
assert keep_freed_memory()
pages()
print(before, pages())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_pages_are_used_again() -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=plain)
    before, within = map(int, ran.stdout.split())
    assert within < 0.05 * before


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_a_policy_of_the_users_is_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("the C library was asked"))
    assert not keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not keep_freed_memory()
