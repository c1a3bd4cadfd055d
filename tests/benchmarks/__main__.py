"""`python -m tests.benchmarks [NAME ...]`: every `bench_NAME.py` in turn, or those named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main() -> int:
    known = sorted(path.stem for path in Path(__file__).parent.glob("bench_*.py"))
    chosen = [f"bench_{name.removeprefix('bench_')}" for name in sys.argv[1:]] or known
    if unknown := set(chosen) - set(known):
        print(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    codes = []
    for name in chosen:
        print(f"\n== {name.removeprefix('bench_')}", flush=True)
        codes.append(subprocess.run([sys.executable, "-W", "ignore", "-m", f"tests.benchmarks.{name}"]).returncode)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
