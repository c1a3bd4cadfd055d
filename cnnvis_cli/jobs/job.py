"""One job: a command with its config, on its way to files. What every command's page is given to work with.

A page reads through `inputs`, runs its loops through the job, saves through `results`, and notes in the `record` what it found.
The record is written last, and what an interrupted run needs stands in `resume`.
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cnnvis_cli import __version__
from cnnvis_cli.config.base import CommandConfig
from cnnvis_cli.errors import Interrupted
from cnnvis_cli.files.atomic import clear, clear_halves, make_folder
from cnnvis_cli.jobs.fresh import named_files
from cnnvis_cli.jobs.inputs import Inputs
from cnnvis_cli.jobs.kept import kept_record, result_name
from cnnvis_cli.jobs.loops import SPENT, Loops
from cnnvis_cli.jobs.progress import Task, track
from cnnvis_cli.jobs.record import Record, brief, config_hash
from cnnvis_cli.jobs.results import Results
from cnnvis_cli.jobs.resume import Resume
from cnnvis_cli.jobs.session import Session


class Job:
    """One config on its way to files `NAME*.png ...` and the record `NAME.json` in a folder."""

    def __init__(
        self, command: str, config: CommandConfig, folder: Path, session: Session, *, fitted: CommandConfig | None = None
    ) -> None:
        """`fitted`: the config with a batch small enough for the memory, where the one asked for was too large."""
        self._asked, self._session, self._began = config, session, session.clock()
        settings = config.model_dump(mode="json")
        self.record = Record(command, result_name(config), settings, config_hash(command, config), config.seed)
        self.record.device = str(session.device)
        self.record.fitted_batch = getattr(fitted, "batch", None)
        title = " · ".join([command, *config.words(), *config.changes()]) if getattr(config, "titles", True) else ""
        self.results = Results(folder, self.record, {"command": command, "config": settings}, session.device, title)
        # A state goes on only in the batches in which it began.
        self.resume = Resume(self.results.path("", ".state"), config_hash(command, fitted or config))
        self.inputs = Inputs(session, self.record, self.resume, self.check_interrupt)
        self.loops = Loops(f"{command} {self.name[:40]}", self.results, self.resume, session, self.spent)

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def scores(self) -> dict[str, Any]:
        return self.record.scores

    @property
    def quiet(self) -> bool:
        return self._session.quiet

    @property
    def record_file(self) -> Path:
        return self.results.path("", ".json")

    @property
    def files(self) -> list[Path]:
        return [self.results.folder / name for name in self.record.files]

    def begin(self) -> bool:
        """Whether there is anything to do: False where the result of the same config is there already.

        Raises UserError where a result of another config has the same name, unless `--overwrite`.
        """
        make_folder(self.results.folder)
        command, overwrite = self.record.command, self._session.overwrite
        if (old := kept_record(command, self._asked, self.results.folder, overwrite=overwrite)) is not None:
            self.record = old
            return False
        self.record.named = named_files(self.record.config)
        if overwrite:
            self.resume.clear()
        elif (trouble := self.resume.load()) is not None:
            self.warn(trouble)
        return True

    @property
    def clock(self) -> Callable[[], float]:
        return self._session.clock

    def spent(self) -> float:
        """Seconds since the command began (in a batch: the job), with those of the runs that were interrupted before."""
        began = self._began if self._session.began is None else self._session.began
        return float(self.resume.get(SPENT, 0.0)) + self.clock() - began

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Task]:
        """A progress bar of `total` units for work that is not the gradient loop."""
        with track(label, total, quiet=self.quiet) as bar:
            yield bar

    def interrupted(self) -> bool:
        """Whether the run was asked to stop where it can be resumed."""
        return self._session.interrupt()

    def check_interrupt(self) -> None:
        """Raise Interrupted if Ctrl-C came: for work between loops, which is done again on resumption."""
        if self.interrupted():
            raise Interrupted("interrupted; nothing was saved.")

    def say(self, message: str) -> None:
        """Tell how the run goes, on stderr."""
        if not self.quiet:
            print(message, file=sys.stderr, flush=True)

    def warn(self, message: str) -> None:
        """Say something that the user should know; it stands in the record too."""
        self.record.warnings.append(message)
        self.say(f"cnnvis: warning: {message}")

    def finish(self) -> None:
        """Write the record, last of all files, and clear what an interrupted run left."""
        versions = {"cnnvis": __version__, "python": platform.python_version()}
        versions |= {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "numpy", "pillow")}
        self.record.versions, self.record.inputs = versions, brief(self.inputs.digests)
        self.record.seconds = round(self.clock() - self._began, 2)
        self.record.write(self.record_file)
        self.resume.clear()
        clear(self.results.path("partial"))
        for path in (*self.files, self.record_file):  # what a killed process left half written of these very files
            clear_halves(path)
