"""What the tests of networks share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.support.server import Server


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers that answer as `reply` says, and stops them at the end."""
    started: list[Server] = []

    def start(reply: Callable[[np.ndarray], Any]) -> Server:
        started.append(Server(reply))
        return started[-1]

    yield start
    for server in started:
        server.stop()
