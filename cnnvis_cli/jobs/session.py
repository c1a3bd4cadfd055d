"""What jobs of one process share: the device, the flags, the networks that are loaded already."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from cnnvis_cli.config.base import NetworkConfig
from cnnvis_cli.engine.arithmetic import keep_freed_memory
from cnnvis_cli.engine.devices import select_device
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.progress import Interrupt
from cnnvis_cli.networks.load import NetworkSpec, load_network

_NETWORKS_KEPT = 4  # a comparison of many networks would fill the memory with them


@dataclass
class Session:
    """What jobs of one process share."""

    device: torch.device
    quiet: bool = False
    overwrite: bool = False
    offline: bool = False
    trust_code: bool = False
    interrupt: Interrupt = field(default_factory=Interrupt)
    clock: Callable[[], float] = time.perf_counter  # seconds, for budgets
    began: float | None = None  # where a budget's time begins, if not with the job: when the command did
    _networks: dict[NetworkSpec, tuple[Network, str]] = field(default_factory=dict)

    def network(self, config: NetworkConfig) -> tuple[Network, str]:
        """The network that the config asks for and the SHA-256 of its weights; loaded once, the last few are kept."""
        seed = config.seed if config.weights == "random" else 0
        spec = NetworkSpec(
            config.model,
            config.weights,
            config.precision,
            config.memory_format,
            self.offline,
            self.trust_code,
            seed,
            output=config.output,
            classes=config.classes,
        )
        known = spec in self._networks
        self._networks[spec] = self._networks.pop(spec) if known else self._loaded(spec)
        if len(self._networks) > _NETWORKS_KEPT:
            del self._networks[next(iter(self._networks))]
        return self._networks[spec]

    def _loaded(self, spec: NetworkSpec) -> tuple[Network, str]:
        network, digest = load_network(spec, self.device)
        if not self.quiet:
            for note in network.notes:
                print(f"cnnvis: model={network.name}: {note}", file=sys.stderr, flush=True)
        return network, digest


def device_of(name: str) -> torch.device:
    """The device of --device. Raises UserError where it is absent."""
    try:
        return select_device(name)
    except UserError as error:
        raise UserError(f"--device {name}: {error} Use --device cpu or auto; `cnnvis doctor` says more.") from None


def make_session(
    device: str = "auto",
    *,
    quiet: bool = False,
    overwrite: bool = False,
    offline: bool = False,
    trust_code: bool = False,
    began: float | None = None,
) -> Session:
    """A session on a device. Raises UserError where the device is absent."""
    keep_freed_memory()
    return Session(device_of(device), quiet, overwrite, offline, trust_code, began=began)
