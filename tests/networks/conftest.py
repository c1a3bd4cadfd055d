"""What the tests of networks share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from cnnvis_cli.pictures.find import find_pictures
from cnnvis_cli.pictures.read import read, to_square
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


@pytest.fixture(scope="session")
def photographs() -> list[Tensor]:
    """Of the test split of Caltech-101, a class each."""
    return [to_square(read(source), 144) for source in find_pictures("sample:caltech")[::8]]
