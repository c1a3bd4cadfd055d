"""One job: a command with its config, on its way to files. What every command's page is given to work with.

A page reads pictures and networks through the job, runs its loops through it, saves through it and records its scores; the
job names the files, measures on what was saved, keeps the state of an interrupted run and writes the sidecar last.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cnnvis_cli import __version__
from cnnvis_cli.config.base import CommandConfig, NetworkConfig
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.loop import Loop, Outcome, Stage, Watch, synthesize, synthesize_stages
from cnnvis_cli.errors import Interrupted, UserError
from cnnvis_cli.files.atomic import clear, make_folder
from cnnvis_cli.jobs.progress import Interrupt, Task, track
from cnnvis_cli.jobs.record import config_hash, difference, read_sidecar, safe_name
from cnnvis_cli.networks.load import NetworkSpec, load_network
from cnnvis_cli.pictures import read
from cnnvis_cli.pictures.read import Source, find_picture, to_square
from cnnvis_cli.pictures.write import (
    read_state,
    to_image,
    write_array,
    write_csv,
    write_gif,
    write_json,
    write_png,
    write_state,
    write_video,
)

_NETWORKS_KEPT = 4  # a comparison of many networks would fill the memory with them


@dataclass
class Session:
    """What jobs of one process share: the device, the flags, the networks that are loaded already."""

    device: torch.device
    quiet: bool = False
    overwrite: bool = False
    offline: bool = False
    trust_code: bool = False
    interrupt: Interrupt = field(default_factory=Interrupt)
    _networks: dict[NetworkSpec, tuple[Network, str]] = field(default_factory=dict)

    def network(self, config: NetworkConfig) -> tuple[Network, str]:
        """The network that the config asks for and the SHA-256 of its weights; loaded once, the last few are kept."""
        seed = config.seed if config.weights == "random" else 0
        source = NetworkSpec(
            config.model, config.weights, config.precision, config.memory_format, self.offline, self.trust_code, seed
        )
        known = source in self._networks
        self._networks[source] = self._networks.pop(source) if known else load_network(source, self.device)
        if len(self._networks) > _NETWORKS_KEPT:
            del self._networks[next(iter(self._networks))]
        return self._networks[source]


class Job:
    """One config on its way to files `NAME*.png ...` and the sidecar `NAME.json` in a folder."""

    def __init__(
        self, command: str, config: CommandConfig, folder: Path, session: Session, *, fitted: CommandConfig | None = None
    ) -> None:
        """`fitted`: the config with a batch small enough for the memory, where the one asked for was too large."""
        self.command, self.config, self.folder, self.session = command, config, folder, session
        self.fitted = fitted or config
        self.name = safe_name(config.name or config.slug())
        self.hash = config_hash(command, config)
        # A state goes on only in the batches in which it began.
        self._state_hash = config_hash(command, self.fitted)
        self.files: list[Path] = []
        self.scores: dict[str, Any] = {}
        self._record: dict[str, Any] = {}
        self._inputs: dict[str, str] = {}
        self._weights: dict[str, str] = {}
        self._began = time.perf_counter()
        self._resumed: dict[str, Any] = {}
        # What a page gathers while its loops run (frames of a GIF); it comes back when an interrupted run goes on.
        self.memory: dict[str, Any] = {}
        # Pictures of a stream that could not be read, and why. The result stands, but the exit code says so.
        self.skipped: dict[str, str] = {}

    # Files

    def path(self, suffix: str, extension: str = ".png") -> Path:
        """`NAME.png` for an empty suffix, else `NAME-SUFFIX.png`."""
        return self.folder / f"{self.name}{'-' + safe_name(suffix) if suffix else ''}{extension}"

    @property
    def sidecar(self) -> Path:
        return self.path("", ".json")

    @property
    def state_file(self) -> Path:
        return self.path("", ".state")

    def _add(self, path: Path) -> Path:
        if path not in self.files:
            self.files.append(path)
        return path

    def save_picture(self, picture: Tensor, suffix: str = "") -> Tensor:
        """Save one picture (3, H, W) or (1, 3, H, W) in [0, 1] as PNG; returns it reloaded, 8 bit, as (1, 3, H, W)."""
        return self.save_image(to_image(picture), suffix)

    def save_image(self, image: Image.Image, suffix: str = "") -> Tensor:
        """Save a sheet or figure as PNG with the settings in its text; returns it reloaded as (1, 3, H, W)."""
        path = self.path(suffix)
        settings = {"command": self.command, "config": self.config.model_dump(mode="json")}
        write_png(path, image, {"Software": f"cnnvis {__version__}", "cnnvis": json.dumps(settings)})
        self._add(path)
        return read.read(Source(self.name, path)).to(self.session.device)

    def save_gif(self, frames: Sequence[Image.Image], suffix: str = "", milliseconds: int = 60) -> None:
        write_gif(self._add(self.path(suffix, ".gif")), frames, milliseconds)

    def save_video(self, frames: Sequence[Image.Image], suffix: str = "", rate: int = 16) -> None:
        write_video(self._add(self.path(suffix, ".mp4")), frames, rate)

    def save_array(self, values: Tensor | np.ndarray, suffix: str) -> None:
        write_array(self._add(self.path(suffix, ".npy")), values)

    def save_csv(self, header: Sequence[str], rows: Sequence[Sequence[Any]], suffix: str) -> None:
        write_csv(self._add(self.path(suffix, ".csv")), header, rows)

    # Inputs

    def network(self, config: NetworkConfig | None = None) -> Network:
        """The network of this job's config (or of another, e.g. with another model)."""
        chosen = config or self.config
        assert isinstance(chosen, NetworkConfig)
        network, digest = self.session.network(chosen)
        self._record.setdefault("networks", {})[chosen.model] = {"weights": chosen.weights or "pretrained", "sha256": digest}
        self.rests_on(f"{chosen.model}@{chosen.weights}", digest)
        return network

    def rests_on(self, weights: str, digest: str) -> None:
        """Note the SHA-256 of weights. Raises UserError where the state to go on from was computed with others."""
        self._weights[weights] = digest
        if self._resumed.get("weights", {}).get(weights, digest) != digest:
            raise UserError(
                f"{self.state_file} was computed with other weights of {weights.rstrip('@')} than there are now. "
                "Put those back to go on from it, or begin anew with --overwrite."
            )

    @property
    def network_digest(self) -> str:
        """SHA-256 of the weights of this job's network."""
        assert isinstance(self.config, NetworkConfig)
        return self.session.network(self.config)[1]

    def read(self, source: Source) -> Tensor:
        """One picture (1, 3, H, W) in [0, 1] at its own size on the job's device; its hash goes into the sidecar."""
        self.digest(source)
        return read.read(source).to(self.session.device)

    def read_one(self, what: str) -> Tensor:
        return self.read(find_picture(what))

    def digest(self, source: Source) -> str:
        """SHA-256 of a picture's file, noted in the sidecar."""
        name = f"sample:{source.name}" if source.is_sample else str(source.path)
        self._inputs[name] = source.digest()
        return self._inputs[name]

    def stream(
        self, sources: Sequence[Source], side: int, resize_to: int | None = None, *, batch: int, label: str = "reading"
    ) -> Iterator[tuple[list[Source], Tensor]]:
        """Any number of pictures, `batch` at a time, as squares (B, 3, side, side), with a progress bar.

        What cannot be read is left out and noted in `skipped`. Raises Interrupted between two pictures when asked to stop.
        """
        found: list[Source] = []
        squares: list[Tensor] = []
        with self.track(label, len(sources)) as bar:
            for number, source in enumerate(sources, start=1):
                self.check_interrupt()
                if (picture := self.read_or_skip(source)) is not None:
                    squares.append(to_square(picture, side, resize_to))
                    found.append(source)
                if found and (len(found) == batch or number == len(sources)):
                    yield found, torch.cat(squares)
                    found, squares = [], []
                bar.advance(number, f"{len(self.skipped)} left out" if self.skipped else "")

    def read_or_skip(self, source: Source) -> Tensor | None:
        """The picture as `read` gives it; None where it cannot be read, which is noted in `skipped`."""
        try:
            return self.read(source)
        except UserError as error:
            self.skipped[str(source.path)] = str(error)
            return None

    def unreadable(self, sources: Sequence[Source]) -> UserError:
        """What to raise where none of these pictures could be read."""
        many = f"none of the {len(sources)} pictures can be read: " if len(sources) > 1 else ""
        return UserError(many + next(iter(self.skipped.values())))

    # Running

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Task]:
        """A progress bar of `total` units for work that is not the gradient loop. Raises Interrupted when asked to stop."""
        with track(label, total, quiet=self.session.quiet) as bar:
            yield bar

    def check_interrupt(self) -> None:
        """Raise Interrupted if Ctrl-C came: for work between loops, which is done again on resumption."""
        if self.session.interrupt():
            raise Interrupted("interrupted; nothing was saved.")

    def synthesize(
        self, loop: Loop, key: str = "loop", *, on_step: Callable[[int, Tensor, Tensor], None] | None = None
    ) -> Outcome:
        """Run the loop with a progress bar. Ctrl-C saves what there is and the state, and raises Interrupted; the same
        command then goes on from there. A page with several loops gives each a `key`."""
        return self._resumable(key, loop.steps, lambda state, watch: [synthesize(loop, state=state, watch=watch)], on_step)[-1]

    def synthesize_stages(
        self,
        stages: Sequence[Stage],
        steps: int,
        key: str = "loop",
        *,
        on_step: Callable[[int, Tensor, Tensor], None] | None = None,
    ) -> list[Outcome]:
        """The same for loops that follow each other; `steps` is their sum, for the progress bar."""

        def run(state: dict[str, Any] | None, watch: Watch) -> list[Outcome]:
            return synthesize_stages(stages, state=state, watch=watch)

        return self._resumable(key, steps, run, on_step)

    def _resumable(
        self,
        key: str,
        total: int,
        run: Callable[[dict[str, Any] | None, Watch], list[Outcome]],
        on_step: Callable[[int, Tensor, Tensor], None] | None,
    ) -> list[Outcome]:
        done = self._resumed.get("done", {})
        if key in done:
            return [Outcome(**outcome) for outcome in done[key]]
        state = self._resumed.get("current", {}).pop(key, None)
        taken = 0
        label = f"{self.command} {self.name[:40]}" + (f" {key}" if key != "loop" else "")
        with track(label, total, quiet=self.session.quiet) as bar:

            def step(number: int, values: Tensor, seen: Tensor) -> None:
                nonlocal taken
                taken += 1
                bar.advance(max(number, taken), f"objective {values.mean().item():.4g}")
                if on_step is not None:
                    on_step(number, values, seen)

            outcomes = run(state, Watch(step, self.session.interrupt))
        last = outcomes[-1]
        if last.stopped == "interrupted":
            self._save_partial(key, last)
            at = f"after {len(last.trace)} steps"
            raise Interrupted(
                f"interrupted {at}; {self.path('partial')} shows how far it came. The same command goes on from there."
            )
        self._resumed.setdefault("done", {})[key] = [vars(outcome) | {"state": {}} for outcome in outcomes]
        return outcomes

    def _save_partial(self, key: str, outcome: Outcome) -> None:
        write_png(self.path("partial"), to_image(torch.cat(list(outcome.pictures), dim=2)))
        done = self._resumed.get("done", {})
        self._write_state(done=done, current={key: outcome.state}, memory=self.memory)

    def save_state(self, state: dict[str, Any]) -> None:
        """Keep a command's own resumable state (evolve's archive); `saved_state` gives it back to the same config."""
        self._write_state(own=state)

    def _write_state(self, **values: Any) -> None:
        write_state(self.state_file, {"hash": self._state_hash, "weights": self._weights, **values})

    @property
    def saved_state(self) -> dict[str, Any] | None:
        return self._resumed.get("own")

    # Beginning and end

    def begin(self) -> bool:
        """Whether there is anything to do: False where the result of the same config is there already.

        Raises UserError where a result of another config has the same name, unless `--overwrite`.
        """
        make_folder(self.folder)
        if self.sidecar.exists() and not self.session.overwrite:
            old = read_sidecar(self.sidecar)
            if old.get("config_hash") == self.hash:
                self.files = [self.folder / file for file in old["files"]]
                self.skipped = old.get("skipped", {})
                if all(path.exists() for path in self.files):
                    return False
                self.files = []
            else:
                differs = difference(old.get("config", {}), self.config.model_dump(mode="json"))
                raise UserError(
                    f"{self.sidecar} is the result of another config ({differs}). Use --overwrite, name=... or --out DIR."
                )
        state = read_state(self.state_file) if self.state_file.exists() else None
        if state is not None and state.get("hash") == self._state_hash and not self.session.overwrite:
            self._resumed = state
            self.memory = state.get("memory", {})
        return True

    def record(self, **values: Any) -> None:
        """Further entries of the sidecar (trace, stopped, labels)."""
        self._record.update(values)

    def warn(self, message: str) -> None:
        """Say something that the user should know; it stands in the sidecar too."""
        self._record.setdefault("warnings", []).append(message)
        if not self.session.quiet:
            print(f"cnnvis: warning: {message}", file=sys.stderr, flush=True)

    def say(self, message: str) -> None:
        """A word on how it goes, on stderr."""
        if not self.session.quiet:
            print(f"{self.command} {self.name}: {message}", file=sys.stderr, flush=True)

    def finish(self) -> None:
        """Write the sidecar, last of all files, and clear what an interrupted run left."""
        versions = {"cnnvis": __version__, "python": platform.python_version()}
        versions |= {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "numpy", "pillow")}
        values = {
            "command": self.command,
            "name": self.name,
            "config": self.config.model_dump(mode="json"),
            "config_hash": self.hash,
            "seed": self.config.seed,
            "scores": self.scores,
            "files": [path.name for path in self.files],
            "inputs": _brief(self._inputs),
            "skipped": self.skipped,
            "device": str(self.session.device),
            "versions": versions,
            **({"fitted_batch": getattr(self.fitted, "batch", None)} if self.fitted is not self.config else {}),
            **self._record,
            "seconds": round(time.perf_counter() - self._began, 2),
        }
        write_json(self.sidecar, values)
        for left in (self.state_file, self.path("partial")):
            clear(left)


def _brief(inputs: dict[str, str], most: int = 100) -> dict[str, str]:
    """The inputs' hashes, or one over all of them where they are many."""
    if len(inputs) <= most:
        return inputs
    together = hashlib.sha256("".join(digest for _, digest in sorted(inputs.items())).encode())
    return {f"{len(inputs)} pictures": together.hexdigest()}


_SITE = Path(np.__file__).parent.parent
