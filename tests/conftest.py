"""What all tests share: small pictures, the bundled networks, and a way to run commands as a user would."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from cnnvis_cli.cli.app import app
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.networks.load import NetworkSpec, load_network


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is measured of networks is not kept in the user's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNVIS_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def images(generator: torch.Generator) -> Tensor:
    """(2, 3, 64, 64) random pictures."""
    return torch.rand(2, 3, 64, 64, generator=generator)


@pytest.fixture(scope="session")
def minivgg() -> Network:
    return load_network(NetworkSpec("minivgg"), torch.device("cpu"))[0]


@pytest.fixture(scope="session")
def lenet() -> Network:
    return load_network(NetworkSpec("lenet"), torch.device("cpu"))[0]


@dataclass(frozen=True)
class Ran:
    """What a command did: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def files(self) -> list[Path]:
        """The paths that were printed."""
        return [Path(line) for line in self.out.splitlines()]

    @property
    def sidecar(self) -> dict[str, Any]:
        """The JSON beside the first result."""
        folder = self.files[0].parent
        sidecars = [path for path in folder.glob("*.json") if self.files[0].name in json.loads(path.read_text())["files"]]
        return json.loads(sidecars[0].read_text())


@pytest.fixture
def cnnvis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run `cnnvis ARGUMENTS` in-process, in an empty folder. Fails the test on a traceback."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Ran:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Three classes that differ in colour, and a bright square in each picture at a place of its own."""
    folder, random = tmp_path / "collection", np.random.default_rng(0)
    for label, color in (("red", (150, 20, 20)), ("green", (20, 150, 20)), ("blue", (20, 20, 150))):
        (folder / label).mkdir(parents=True)
        for number in range(5):
            values = np.clip(np.array(color) + random.normal(0, 12, (100, 100, 3)), 0, 255).astype(np.uint8)
            y, x = random.integers(10, 70, 2)
            values[y : y + 16, x : x + 16] = 255
            Image.fromarray(values).save(folder / label / f"{number}.png")
    return folder
