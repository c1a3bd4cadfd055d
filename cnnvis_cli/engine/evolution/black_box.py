"""Who judges the images: any callable from 8-bit pictures to probabilities, and what its answers must be."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch

from cnnvis_cli.engine.errors import RunError
from cnnvis_cli.engine.evolution.encoding import Images
from cnnvis_cli.engine.network.network import Network

# From (N, H, W, 3) uint8, sRGB, to (N, classes) probabilities.
BlackBox: TypeAlias = Callable[[Images], np.ndarray]
_TOLERANCE = 1e-3


class QueriesSpent(RunError):
    """The evaluator may be asked no more. What was found so far stands."""


class NetworkBox:
    """One of our networks, in batches; of some 0.4 megapixels unless told otherwise, which bounds the memory.

    Softmax in float64: near 1 it still tells 1 - 1e-9 from 1 - 1e-12.
    """

    def __init__(self, network: Network, batch: int | None = None) -> None:
        self.network, self.batch = network, batch or min(256, max(1, 400_000 // network.size**2))

    @torch.no_grad()
    def __call__(self, images: Images) -> np.ndarray:
        parts = []
        for start in range(0, len(images), self.batch):
            pixels = torch.from_numpy(images[start : start + self.batch]).to(self.network.device)
            logits = self.network(pixels.permute(0, 3, 1, 2).float().div_(255))
            parts.append(logits.double().softmax(1).cpu().numpy())
        return np.concatenate(parts)


def probabilities_of(evaluate: BlackBox, images: Images, classes: int | None = None) -> np.ndarray:
    """(N, classes) float64 probabilities of the images. Raises RunError for any answer that is not that."""
    answer = evaluate(images)
    try:
        values = np.asarray(answer, np.float64)
    except (TypeError, ValueError):
        raise RunError(
            f"the evaluator answered a {type(answer).__name__}, not an array of numbers (images, classes)."
        ) from None
    if values.ndim != 2 or len(values) != len(images) or values.shape[1] == 0 or classes not in (None, values.shape[1]):
        wanted = f"({len(images)}, {classes or 'classes'})"
        raise RunError(f"the evaluator answered an array of shape {values.shape} where {wanted} was due.")
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).any(1).sum())
        raise RunError(f"the evaluator answered NaN or infinity for {bad} of {len(images)} images.")
    low, high = values.min(initial=0), values.max(initial=0)
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise RunError(
            f"the evaluator answered values from {low:.3g} to {high:.3g}, which are no probabilities. "
            "If they are logits, apply a softmax."
        )
    return values.clip(0, 1)
