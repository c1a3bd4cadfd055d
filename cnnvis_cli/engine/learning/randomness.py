"""Randomness by counting: what is drawn at a step follows from the seed, the step and a name, and from nothing before.

A run that goes on after an interruption therefore needs no state of any iterator: it draws what it would have drawn.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def drawn(seed: int, step: int, stream: str = "") -> torch.Generator:
    """A generator (CPU) for one use at one step; other streams and steps are independent of it."""
    digest = hashlib.blake2b(f"{seed}/{stream}/{step}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


class Shuffled:
    """Endless passes over `count` things, each in a random order of its own."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self._seed = count, seed
        self._orders: dict[int, Tensor] = {}

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            self._orders = {e: order for e, order in self._orders.items() if e == epoch - 1}  # a batch may span two passes
            self._orders[epoch] = torch.randperm(self.count, generator=drawn(self._seed, epoch, "order"))
        return self._orders[epoch]

    def batch(self, step: int, size: int) -> list[int]:
        """The `size` things of step number `step` (from 0)."""
        places = range(step * size, (step + 1) * size)
        return [int(self._order(place // self.count)[place % self.count]) for place in places]
