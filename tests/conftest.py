"""What all tests share: small networks and pictures, one thread, offline."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def images(generator: torch.Generator) -> Tensor:
    """(2, 3, 64, 64) random pictures."""
    return torch.rand(2, 3, 64, 64, generator=generator)
