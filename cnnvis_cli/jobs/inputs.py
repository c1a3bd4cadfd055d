"""What a job reads: pictures and networks, each with its SHA-256 in the record."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from cnnvis_cli.config.base import NetworkConfig
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.progress import Task
from cnnvis_cli.jobs.record import Record
from cnnvis_cli.jobs.resume import Resume
from cnnvis_cli.jobs.session import Session
from cnnvis_cli.networks.load import weights_file
from cnnvis_cli.pictures import read
from cnnvis_cli.pictures.read import PictureFile, find_picture, to_square
from cnnvis_cli.pictures.samples import printable

UNSTEADY = (
    "{} answers one picture differently each time it is asked (dropout that is on, or noise, in its forward): "
    "so will every result made with it"
)


class Inputs:
    """Pictures and networks for one job. What cannot be read of many pictures is noted in `skipped`."""

    def __init__(self, session: Session, record: Record, resume: Resume, check: Callable[[], None]) -> None:
        """`check` raises Interrupted when the job is asked to stop."""
        self._session, self._record, self._resume, self._check = session, record, resume, check
        self.digests: dict[str, str] = {}
        self.last = ""  # the picture that was read last, for who has to say where it went wrong

    @property
    def device(self) -> torch.device:
        return self._session.device

    @property
    def offline(self) -> bool:
        """Whether nothing may be downloaded."""
        return self._session.offline

    @property
    def trust_code(self) -> bool:
        """Whether code of the user's may run."""
        return self._session.trust_code

    @property
    def skipped(self) -> dict[str, str]:
        """Pictures that could not be read, and why. The result stands, but the exit code says so."""
        return self._record.skipped

    def network(self, config: NetworkConfig) -> Network:
        """The network that a config asks for. Raises UserError where the state to go on from was made with other weights."""
        network, digest = self._session.network(config)
        weights = config.weights or "pretrained"
        said = {"notes": "; ".join(network.notes)} if network.notes else {}
        returns = network.reading.describe()
        self._record.networks[config.model] = {"weights": weights, "sha256": digest, "returns": returns, **said}
        if (file := weights_file(config.model, config.weights, digest)) is not None:
            self._record.networks[config.model]["file"] = str(file)
        self._resume.rests_on(f"{config.model}@{config.weights}", digest)
        if not network.steady and (warning := UNSTEADY.format(network.name)) not in self._record.warnings:
            self._record.warnings.append(warning)
            if not self._session.quiet:
                print(f"cnnvis: warning: {warning}", file=sys.stderr, flush=True)
        return network

    def weights_digest(self, config: NetworkConfig) -> str:
        """SHA-256 of a network's weights."""
        return self._session.network(config)[1]

    def read(self, source: PictureFile) -> Tensor:
        """One picture (1, 3, H, W) in [0, 1] at its own size on the job's device; its hash goes into the record."""
        self.digest(source)
        self.last = printable(source.address)
        picture = read.read(source)
        self.last += f" ({picture.shape[3]} x {picture.shape[2]} px)"
        return picture.to(self.device)

    def read_one(self, what: str) -> Tensor:
        """The picture of a path or sample name."""
        return self.read(find_picture(what))

    def digest(self, source: PictureFile) -> str:
        """SHA-256 of a picture's file, noted in the record."""
        self.digests[source.address] = source.digest()
        self._resume.shows(printable(source.address), self.digests[source.address])
        return self.digests[source.address]

    def note(self, source: PictureFile) -> None:
        """The hash of a picture that is read elsewhere, or was, in the record; whoever reads it says where that cannot be."""
        with suppress(UserError):
            self.digest(source)

    def read_or_skip(self, source: PictureFile) -> Tensor | None:
        """The picture as `read` gives it; None where it cannot be read, which is noted in `skipped`."""
        try:
            return self.read(source)
        except UserError as error:
            self.skipped[str(source.path)] = str(error)
            return None

    def stream(
        self, sources: Sequence[PictureFile], side: int, resize_to: int | None = None, *, batch: int, bar: Task
    ) -> Iterator[tuple[list[PictureFile], Tensor]]:
        """Any number of pictures, `batch` at a time, as squares (B, 3, side, side).

        What cannot be read is left out and noted in `skipped`. Raises Interrupted between two pictures when asked to stop.
        """
        yield from self.stream_fitted(sources, lambda picture: to_square(picture, side, resize_to), batch=batch, bar=bar)

    def stream_fitted(
        self, sources: Sequence[PictureFile], fit: Callable[[Tensor], Tensor], *, batch: int, bar: Task
    ) -> Iterator[tuple[list[PictureFile], Tensor]]:
        """The same for pictures (1, 3, H, W) made by `fit`: up to `batch` at a time, of one size."""
        found: list[PictureFile] = []
        fitted: list[Tensor] = []
        for number, source in enumerate(sources, start=1):
            self._check()
            if (picture := self.read_or_skip(source)) is not None:
                picture = fit(picture)
                if fitted and picture.shape != fitted[0].shape:
                    yield found, torch.cat(fitted)
                    found, fitted = [], []
                fitted.append(picture)
                found.append(source)
            if found and (len(found) == batch or number == len(sources)):
                yield found, torch.cat(fitted)
                found, fitted = [], []
            bar.advance(number, f"{len(self.skipped)} left out" if self.skipped else "")

    def unreadable(self, sources: Sequence[PictureFile]) -> UserError:
        """What to raise where none of these pictures could be read."""
        many = f"none of the {len(sources)} pictures can be read: " if len(sources) > 1 else ""
        return UserError(many + next(iter(self.skipped.values())))
