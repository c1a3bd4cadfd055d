"""What a run will cost, from one step that is measured before it starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cnnvis_cli.engine.optim.evaluate import ValueGradient


@dataclass(frozen=True)
class Cost:
    """Of one step, per pixel of the picture: `seconds`, and `bytes` kept for the way back."""

    seconds: float
    bytes: float


def measure(evaluate: ValueGradient, pictures: Tensor, clock: Callable[[], float] = time.perf_counter) -> Cost:
    """ValueGradient twice; the first, which also warms up, counts what autograd keeps, the second is timed."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    index = torch.arange(len(pictures))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        evaluate(pictures, index)
    _wait(pictures)
    began = clock()
    evaluate(pictures, index)
    _wait(pictures)
    pixels = pictures.shape[2] * pictures.shape[3]
    return Cost((clock() - began) / pixels, sum(kept.values()) / pixels)


def _wait(pictures: Tensor) -> None:
    if pictures.device.type == "cuda":
        torch.cuda.synchronize(pictures.device)
