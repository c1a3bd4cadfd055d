"""Saying how a job went: result paths or a JSON line on stdout, scores on stderr. Imports no torch."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from cnnvis_cli.errors import RunError
from cnnvis_cli.jobs.record import Record, plain


@dataclass(frozen=True)
class Ran:
    """A job that is done: its record in a folder. `fresh`: False where the result was there already."""

    record: Record
    folder: Path
    fresh: bool

    @property
    def files(self) -> list[Path]:
        return [self.folder / name for name in self.record.files]

    @property
    def record_file(self) -> Path:
        return self.folder / f"{self.record.name}.json"


def report(ran: Ran, *, as_json: bool, quiet: bool) -> None:
    """Result paths on stdout (or one JSON line), the scores on stderr.

    Raises RunError where pictures had to be left out: the result is there, and the exit code says that it lacks them.
    """
    record = ran.record
    if as_json:
        line = {"command": record.command, "name": record.name, "sidecar": ran.record_file, "files": ran.files}
        line |= {"fresh": ran.fresh, "skipped": record.skipped, "scores": record.scores}
        print(json.dumps(plain(line), ensure_ascii=False), flush=True)
    else:
        for path in ran.files:
            print(path, flush=True)
    if not quiet:
        if not ran.fresh:
            print(f"{ran.record_file} is the result of this very config; kept. (--overwrite makes it anew)", file=sys.stderr)
        for key, value in record.scores.items():
            if not isinstance(value, dict | list | tuple):
                shown = f"{value:.4g}" if isinstance(value, float) else value
                print(f"  {key.replace('_', ' ')}: {shown}", file=sys.stderr)
        if record.stopped:
            print(f"  stopped: {', '.join(dict.fromkeys(record.stopped))}", file=sys.stderr)
    if record.skipped:
        _say_skipped(record)


def _say_skipped(record: Record, most: int = 10) -> None:
    reasons = list(record.skipped.values())
    for reason in reasons[:most]:
        print(f"left out: {reason}", file=sys.stderr)
    rest = f" ({len(reasons) - most} more are named in the sidecar)" if len(reasons) > most else ""
    many = len(reasons) > 1
    what = f"{len(reasons)} pictures that could not be read were" if many else "1 picture that could not be read was"
    raise RunError(f"{what} left out{rest}; the result was made without {'them' if many else 'it'}.")
