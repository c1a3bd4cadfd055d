"""Jobs on a Ray cluster: one actor per device with its networks loaded, and a plain `ray.wait`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnvis_cli.batch.plan import Planned
from cnnvis_cli.batch.work import Finished, Flags, execute
from cnnvis_cli.errors import UserError


class _Actor:
    """Lives on the cluster. An actor with a GPU of its own sees that one alone, as cuda:0."""

    def __init__(self, device: str, flags: Flags) -> None:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        with contextlib.suppress(OSError):
            os.chdir(Path(flags.folder))
        self._session = flags.session("cuda" if device.startswith("cuda") else device)

    def execute(self, job: Planned) -> Finished:
        return execute(job, self._session)


class RayEngine:
    """Actors on the cluster of $RAY_ADDRESS, or on one that is started here. Results go where the job says."""

    def __init__(self, devices: Sequence[str], flags: Flags) -> None:
        try:
            import ray
        except ImportError:
            raise UserError("--engine ray needs Ray: pip install 'cnnvis[ray]'") from None
        self._ray: Any = ray
        self._flags, self.places = flags, len(devices)
        self._ours = not ray.is_initialized()
        if self._ours:
            here = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": self.places * (flags.threads or 1)}
            self._ray.init(log_to_driver=False, include_dashboard=False, logging_level="error", **here)
        self._free = [(device, self._actor(device)) for device in devices]
        self._running: dict[Any, tuple[Planned, str, Any]] = {}

    def _actor(self, device: str) -> Any:
        cuda = device.startswith("cuda")
        options = {"num_cpus": self._flags.threads or 1, "num_gpus": 1 if cuda else 0}
        return self._ray.remote(_Actor).options(**options).remote(device, self._flags)

    def submit(self, job: Planned) -> None:
        device, actor = self._free.pop()
        self._running[actor.execute.remote(job)] = (job, device, actor)

    def wait(self, seconds: float) -> list[tuple[Planned, Finished]]:
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        ended = []
        for reference in ready:
            job, device, actor = self._running.pop(reference)
            try:
                finished = self._ray.get(reference)
            except self._ray.exceptions.RayActorError as error:
                reason = str(error).strip().splitlines()[-1].strip()
                finished, actor = Finished("died", f"its actor died: {reason}"), self._actor(device)
            except self._ray.exceptions.RayError as error:
                finished = Finished("failed", str(error).strip().splitlines()[-1])
            self._free.append((device, actor))
            ended.append((job, finished))
        return ended

    def interrupt(self) -> None:
        """Actors are not interrupted within a job: what runs comes to its end, nothing new begins."""

    def close(self) -> None:
        if self._ours:
            self._ray.shutdown()
