"""Freed memory is kept while the loop runs: its steps then cost the system no new pages."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Work like a step's: several large blocks, all freed at its end. A process of its own has nothing else on its heap.
SCRIPT = """
import resource, sys
import torch
from cnnvis_cli.engine.memory import freed_memory_kept

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [torch.ones(2 << 20) for _ in range(12)]  # 12 of 8 MiB
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

counts = [pages()]
try:
    with freed_memory_kept():
        pages()
        counts.append(pages())
        raise ValueError
except ValueError:
    counts.append(pages())
print(*counts)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_pages_are_used_again_within_the_block_and_given_back_after_it() -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    before, within, after = map(int, ran.stdout.split())
    assert within < 0.05 * before
    assert after > 0.5 * before
