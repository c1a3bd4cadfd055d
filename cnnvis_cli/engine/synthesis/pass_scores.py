"""What goes wrong in pictures that a network paints, as numbers: checkerboards, frames, blobs, flicker.

Pictures are (1, 3, H, W), sRGB in [0, 1]. Each number is to be read beside the same number of the content or the style.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.engine.generators.normalization import normalized
from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.pixels import luma
from cnnvis_cli.engine.statistics import Wasserstein
from cnnvis_cli.engine.synthesis.style import summarize


def checkerboard(picture: Tensor) -> float:
    """Power of the luma at periods of 2 and 4 pixels over that of the frequencies beside them, the geometric mean over the
    eleven such frequencies; 1: no lattice."""
    grey = luma(picture)[0, 0].double()
    grey = grey[: len(grey) // 4 * 4, : grey.shape[1] // 4 * 4]
    windows = [torch.hann_window(side, periodic=True, dtype=torch.float64, device=grey.device) for side in grey.shape]
    power = torch.fft.fft2((grey - grey.mean()) * windows[0][:, None] * windows[1]).abs().square()
    height, width = power.shape
    ratios = []
    for row, column in [(r, c) for r in range(3) for c in (-1, 0, 1, 2) if (r, c) > (0, 0) and not (r == 2 and c == -1)]:
        at = row * height // 4, column * width // 4

        def mean(reach: int, at: tuple[int, int] = at) -> tuple[Tensor, int]:
            rows = torch.arange(at[0] - reach, at[0] + reach + 1, device=power.device) % height
            columns = torch.arange(at[1] - reach, at[1] + reach + 1, device=power.device) % width
            return power[rows[:, None], columns].sum(), (2 * reach + 1) ** 2

        (peak, few), (around, many) = mean(1), mean(6)  # the window smears a line over the bins next to it
        beside = (around - peak) / (many - few)
        ratios.append((peak / few + 1e-9) / (beside + 1e-9))
    return torch.stack(ratios).log().mean().exp().item()


@torch.no_grad()
def border(network: Network, picture: Tensor, layers: Sequence[str], width: int = 16) -> float:
    """Wasserstein distance of the statistics of a frame of `width` pixels from those inside it, mean over layers."""
    height, wide = picture.shape[-2:]
    width = min(width, height // 4, wide // 4)
    inside = torch.zeros(height, wide, device=picture.device)
    inside[width:-width, width:-width] = 1
    statistic = Wasserstein()
    frame = summarize(network, picture, statistic, layers, mask=1 - inside)
    within = summarize(network, picture, statistic, layers, mask=inside)
    values = [statistic.distance(frame[layer], statistic.target([within[layer]], [1.0])).item() for layer in layers]
    return sum(values) / len(values)


@torch.no_grad()
def outline(network: Network, picture: Tensor, layer: str) -> Tensor:
    """(1, N) where a layer answers in a picture, whatever the colours and the contrast: its maps, each less its mean, in units
    of its spread, made to length one."""
    return F.normalize(normalized(activations(network, picture, [layer])[layer]).flatten(1), dim=1)


def blob(picture: Tensor, window: int = 16) -> float:
    """The largest deviation of the mean colour of a window from the picture's own, in standard deviations of its pixels."""
    window = min(window, *picture.shape[-2:])
    local = F.avg_pool2d(picture, window, stride=max(1, window // 2))
    away = (local - picture.mean((2, 3), keepdim=True)).abs().amax()
    return (away / picture.std((2, 3)).mean().clamp_min(1e-6)).item()


@torch.no_grad()
def flicker(paint: Callable[[Tensor], Tensor], picture: Tensor, seed: int = 0) -> dict[str, float]:
    """Mean change of a value of the result where the picture moves by a pixel (compared in place), and where it gets noise of
    2/255: what makes films flicker."""
    made = paint(picture)
    moved = paint(picture.roll(1, 3)).roll(-1, 3)
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(seed)).to(picture) * 2 / 255
    noisy = paint((picture + noise).clamp(0, 1))
    inner = (..., slice(8, -8), slice(8, -8))
    return {
        "flicker_shift": (moved - made)[inner].abs().mean().item(),
        "flicker_noise": (noisy - made)[inner].abs().mean().item(),
    }
