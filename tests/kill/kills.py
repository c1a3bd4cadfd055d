"""One trial: run, kill, look at every file, run again to the end, compare. And what a campaign of them came to."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

HERE = Path(__file__).resolve().parents[2]
SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ENV = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(HERE)}
_LONGEST = 120.0  # seconds that a run may take, and an end after a signal

_JOBS = """
jobs:
  - command: maximize
    name: "{objective}"
    matrix: {objective: ["class:1", "class:2", "class:3", "class:4"]}
    model: lenet
    steps: 60
"""

SMALL = ("model=minivgg", "style_layers=relu1_1,relu2_1")
_TRAIN = ("style=sample:flower", "images=sample:chelsea,sample:coffee", "steps=8", "batch=1", "judged=1", "check=1s")
CASES: dict[str, tuple[str, ...]] = {
    "maximize": ("maximize", "objective=class:3", "model=lenet", "steps=150", "name=r"),
    "dream": ("dream", "image=sample:chelsea", "objective=layer:relu2_1", "size=96", "steps=6", "octaves=2", "name=r"),
    "style": ("style", *SMALL, "content_layers=relu2_1", "size=64", "smallest=45", "steps=8", "name=r"),
    "texture": ("texture", *SMALL, "size=64", "smallest=45", "steps=8", "name=r"),
    "quilting": ("texture", "method=quilting", "size=96", "name=r"),
    "resynthesis": ("texture", "method=patches", "size=40", "exemplar_size=32", "name=r"),
    "fool": ("fool", "attack=pgd", "steps=40", "name=r"),
    "evolve": ("evolve", "model=lenet", "generations=25", "name=r"),
    "run": ("run", "jobs.yaml", "--workers", "2"),
    "train stylizer": ("train", *_TRAIN, "size=32", "width=4", "blocks=1", "name=r"),
    "train decoder": ("train", "kind=decoder", "images=sample:chelsea,sample:coffee,sample:flower", "steps=6", "batch=1",
                      "size=32", "levels=relu2_1", "judged=1", "compare=0", "check=1s", "name=r"),
    "train network": ("train", "kind=network", "architecture=lenet", "images=sample:caltech", "steps=20", "size=28",
                      "batch=2", "judged=2", "check=1s", "name=r"),
}  # fmt: skip


class Server:
    """The process that forks a child for each run."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kill.server"],
            cwd=HERE,
            env={**os.environ, **_ENV},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the server ended")
        return line

    def run(self, arguments: Sequence[str], folder: Path, after: float | None = None, number: int = 0) -> tuple[int, float]:
        """Exit code (minus the signal's number where it ended by one) and seconds; `number`: a signal sent `after` seconds."""
        assert self._process.stdin is not None
        began = time.monotonic()
        self._process.stdin.write(json.dumps({"arguments": list(arguments), "cwd": str(folder)}) + "\n")
        self._process.stdin.flush()
        pid = int(self._line().split()[1])
        timers = [threading.Timer(_LONGEST, _kill, (pid, signal.SIGKILL))]
        if after is not None:
            timers.append(threading.Timer(after, _kill, (pid, number)))
        for timer in timers:
            timer.start()
        code = int(self._line().split()[2])
        for timer in timers:
            timer.cancel()
        return code, time.monotonic() - began

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def _kill(pid: int, number: int) -> None:
    """Ctrl-C and a hangup go to all processes of the terminal, the others to one."""
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if number in (signal.SIGINT, signal.SIGHUP) else os.kill)(pid, number)


@dataclass
class Tally:
    """What the kills of one command came to. `troubles`: in words, with the folder where it can be looked at."""

    name: str
    seconds: float = 0.0
    kills: int = 0
    trials: int = 0
    torn: int = 0
    left: int = 0
    identical: int = 0
    troubles: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return bool(self.troubles)

    def row(self) -> str:
        counts = (self.trials, self.kills, self.torn, self.left, self.identical)
        return f"{self.name:<16}" + "".join(f"{count:>10}" for count in counts) + f"{self.seconds:>10.1f}"


HEADER = f"{'command':<16}" + "".join(f"{word:>10}" for word in ("reruns", "kills", "torn", "left", "identical", "seconds"))


def torn(folder: Path) -> list[str]:
    """Files under their final names that are not whole."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            if path.suffix in (".png", ".gif"):
                with Image.open(path) as image:
                    image.load()
            elif path.suffix == ".json":
                json.loads(path.read_bytes())
            elif path.suffix in (".state", ".safetensors") and path.stat().st_size == 0:
                raise ValueError("empty")
        except Exception as error:
            found.append(f"{path.name}: {error}")
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _timeless(one) for key, one in value.items() if "seconds" not in key and "time" not in key}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def contents(folder: Path) -> dict[str, Any]:
    """Every file by its name: JSON without seconds, all else as bytes."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            rows = data.splitlines() if path.suffix == ".jsonl" else [data]
            values = [_timeless(json.loads(row)) for row in rows] if path.suffix in (".json", ".jsonl") else data
            found[str(path.relative_to(folder))] = values
    return found


def _prepared(root: Path) -> Path:
    root.mkdir(parents=True)
    (root / "jobs.yaml").write_text(_JOBS)
    return root


def tried(
    server: Server, tally: Tally, arguments: Sequence[str], root: Path, whole: Mapping[str, Any], chance: random.Random
) -> None:
    """Kill the command once to three times, run it to its end, compare with `whole`."""
    folder = _prepared(root)
    out = folder / "out"
    arguments = [*arguments, "--out", "out"]
    tally.trials += 1
    said: list[str] = []
    for _ in range(chance.choice((1, 1, 2, 3))):
        number = chance.choice(SIGNALS)
        code, _ = server.run(arguments, folder, chance.uniform(0, tally.seconds), number)
        tally.kills += 1
        said.append(f"{number.name}:{code}")
        if code not in (0, 130, -number):
            tally.troubles.append(f"{tally.name}: exit code {code} after {number.name}, {folder}")
        if found := torn(out):
            tally.torn += len(found)
            tally.troubles.append(f"{tally.name}: torn after {number.name}: {found}, {folder}")
    code, _ = server.run(arguments, folder)
    if code != 0:
        tally.troubles.append(f"{tally.name}: the rerun ended with {code}, after {said}, {folder}")
        return
    if "Traceback" in (folder / "log").read_text(errors="replace"):
        tally.troubles.append(f"{tally.name}: a traceback, after {said}, {folder}")
    made = contents(out)
    if more := sorted(made.keys() - whole.keys()):
        tally.left += len(more)
        tally.troubles.append(f"{tally.name}: left behind {more}, after {said}, {folder}")
    other = sorted(name for name in whole if made.get(name) != whole[name])
    tally.identical += not other
    if other:
        tally.troubles.append(f"{tally.name}: {other} differ, after {said}, {folder}")


def campaign(
    cases: Mapping[str, Sequence[str]], kills: int, seed: int, say: Callable[[str], None], servers: int = 2
) -> list[Tally]:
    """At least so many kills in all, shared out over the cases. Folders of trials that went wrong are kept."""
    root = Path(tempfile.mkdtemp(prefix="cnnvis-kill."))
    os.environ["CNNVIS_CACHE_HOME"] = str(root / "cache")
    waiting = list(cases.items())
    each = -(-kills // len(cases))

    def work(_: int) -> list[Tally]:
        server, tallies = Server(), []
        try:
            while waiting:
                name, arguments = waiting.pop(0)
                tallies.append(case(server, name, arguments, root / name.replace(" ", "-"), each, seed))
                for line in (tallies[-1].row(), *tallies[-1].troubles):
                    say(line)
        finally:
            server.close()
        return tallies

    say(HEADER)
    with ThreadPoolExecutor(servers) as pool:
        tallies = [tally for some in pool.map(work, range(servers)) for tally in some]
    total = Tally("all", sum(tally.seconds for tally in tallies))
    for key in ("kills", "trials", "torn", "left", "identical"):
        setattr(total, key, sum(getattr(tally, key) for tally in tallies))
    say(total.row())
    return tallies


def case(server: Server, name: str, arguments: Sequence[str], root: Path, kills: int, seed: int) -> Tally:
    """So many kills of one command."""
    tally, chance = Tally(name), random.Random(f"{seed} {name}")
    for place in ("warm", "whole"):  # the first run also measures the network once
        folder = _prepared(root / place)
        code, tally.seconds = server.run([*arguments, "--out", "out"], folder)
        if code != 0:
            tally.troubles.append(f"{name}: {code}: {(folder / 'log').read_text(errors='replace')[-400:]}")
            return tally
    whole = contents(root / "whole" / "out")
    if (warm := contents(root / "warm" / "out")) != whole:
        differing = [key for key in whole if warm.get(key) != whole[key]]
        tally.troubles.append(f"{name}: two whole runs differ: {differing}")
    while tally.kills < kills and len(tally.troubles) < 5:
        tried(server, tally, arguments, root / f"trial{tally.trials}", whole, chance)
    return tally
