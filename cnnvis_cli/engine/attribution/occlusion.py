"""Occlusion: how much the target falls when a window of the picture is covered. Zeiler and Fergus 2014, section 4.2."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cnnvis_cli.engine.attribution.gradients import baseline
from cnnvis_cli.engine.errors import UserError, did_you_mean
from cnnvis_cli.engine.locality.incremental import LARGEST, Incremental, Unsupported
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.evaluate import score
from cnnvis_cli.engine.optim.objectives import Objective
from cnnvis_cli.engine.pixels import gaussian_blur

FILLS = ("mean", "grey", "blur", "noise", "zero")
# Less saved work than this is eaten up by cutting and pasting.
WORTHWHILE = 1.3
# Differences between the two ways above this share of the spread over windows are no rounding.
TOLERANCE = 1e-3


def fill_image(network: Network, image: Tensor, fill: str | tuple[float, float, float], generator: torch.Generator) -> Tensor:
    """What stands in covered windows, (3, H, W), sRGB in [0, 1], for an image (3, H, W).

    `mean`: the training pictures' colour. `grey`: 0.5. `zero`: black. `blur`: the picture, Gaussian with a standard deviation
    of a tenth of its short side. `noise`: uniform. Or a colour, three numbers in [0, 1].
    """
    if not isinstance(fill, str):
        return torch.tensor(fill, device=image.device).view(3, 1, 1).expand_as(image).contiguous()
    if fill == "mean":
        return baseline(network)[0].expand_as(image).contiguous()
    if fill in ("grey", "zero"):
        return torch.full_like(image, 0.5 if fill == "grey" else 0.0)
    if fill == "noise":
        return torch.rand(image.shape, generator=generator).to(image)
    if fill == "blur":
        return blurred(image)
    raise UserError(
        f"unknown fill '{fill}'.{did_you_mean(fill, FILLS)} Known: {', '.join(FILLS)}, or a colour of three numbers."
    )


def blurred(image: Tensor) -> Tensor:
    """The picture (3, H, W) without its details: Gaussian blur with a standard deviation of a tenth of its short side."""
    sigma = min(image.shape[1:]) / 10
    radius = min(math.ceil(3 * sigma), min(image.shape[1:]) - 1)
    return gaussian_blur(image, radius, sigma)


def window_places(pixels: int, window: int, stride: int) -> Tensor:
    """(n, 2) first and last + 1 pixel of each window along an axis. The last one is cut off at the edge, as in captum."""
    if not 1 <= window <= pixels:
        raise UserError(f"window {window} does not fit: the picture has {pixels} pixels on that side.")
    if not 1 <= stride <= window:
        raise UserError(
            f"stride {stride} must be 1 to the window's size, {window}: with a larger one pixels are never covered."
        )
    first = torch.arange(math.ceil((pixels - window) / stride) + 1) * stride
    return torch.stack([first, (first + window).clamp(max=pixels)], 1)


@dataclass(frozen=True)
class Occlusion:
    """What covering each window did.

    `heat`: (H, W) mean drop of the target over the windows that cover a pixel; positive where the target needs it. `drops`:
    (rows, columns) drop per window. `rows`, `columns`: (n, 2) the windows. `clean`: the target of the whole picture.
    `incremental`: whether only changed boxes were recomputed, else `reason` says why not. `difference`: the largest
    difference from the plain way among the windows checked, in units of the target.
    """

    heat: Tensor
    drops: Tensor
    rows: Tensor
    columns: Tensor
    clean: float
    incremental: bool
    reason: str
    difference: float | None

    @property
    def most_important(self) -> tuple[int, int, int, int]:
        """(top, left, height, width) in pixels of the window whose covering lowers the target most."""
        row, column = divmod(int(self.drops.argmax()), self.drops.shape[1])
        (top, bottom), (left, right) = self.rows[row].tolist(), self.columns[column].tolist()
        return top, left, bottom - top, right - left


@torch.no_grad()
def occlude(
    network: Network, image: Tensor, target: Objective, fill: Tensor, *, window: tuple[int, int], stride: tuple[int, int],
    check: int = 1, way: str = "auto", batch: int = 64, progress: Callable[[int, int], None] = lambda done, total: None,
) -> Occlusion:  # fmt: skip
    """Cover every window of an image (3, H, W), sRGB in [0, 1], with `fill` (3, H, W) and note how far the target falls.

    `window`, `stride`: pixels (rows, columns). `check`: that many windows, the most important one first, are evaluated the
    plain way too; if they differ by more than rounding, all are. `way`: `boxes` recomputes only what can change, `plain`
    everything, `auto` the former where it saves work. `progress(done, total)` in windows.
    """
    rows, columns = (window_places(image.shape[axis + 1], window[axis], stride[axis]) for axis in (0, 1))
    clean = float(score(network, target, image[None]))
    plain = _Plain(network, image, target, fill, rows, columns)
    reason = "the plain way was asked for" if way == "plain" else ""
    difference = None
    if not reason:
        try:
            boxes = Incremental(network, image, fill, target.layers, rows, columns)
            if way == "auto" and boxes.saving() < WORTHWHILE:
                raise Unsupported(f"a window changes nearly all maps of {network.name}, so that nothing would be saved")
            scores = _scores(boxes, target, batch, progress)
            difference = _difference(plain, scores, check)
            spread = float(scores.max() - scores.min())
            if difference is not None and difference > TOLERANCE * spread + 1e-5 * abs(clean):
                raise Unsupported(f"the incremental way was off by {difference:.2g} where it was checked")
        except Unsupported as found:
            reason = str(found)
    if reason:
        count = len(rows) * len(columns)
        scores = plain(torch.arange(count), progress).view(len(rows), len(columns))
    return Occlusion(spread_over(clean - scores, rows, columns, image.shape[1:]), clean - scores, rows, columns, clean,
                     not reason, reason, difference)  # fmt: skip


def _scores(boxes: Incremental, target: Objective, batch: int, progress: Callable[[int, int], None]) -> Tensor:
    """The target (rows, columns) with each window covered, recomputing only what can change."""
    work = boxes.work(0), boxes.work(1)
    batch = max(1, min(batch, LARGEST // boxes.largest()))
    scores = torch.zeros(len(work[0]), len(work[1]))
    done = 0
    side = max(1, math.isqrt(batch))
    for some_rows in _alike(work[0], side):
        for some_columns in _alike(work[1], max(1, batch // len(some_rows))):
            values = target(boxes(some_rows, some_columns)).float().cpu()
            scores[some_rows[:, None], some_columns] = values.view(len(some_rows), len(some_columns))
            done += values.numel()
            progress(done, scores.numel())
    return scores


def _alike(work: Tensor, size: int) -> list[Tensor]:
    """Numbers of an axis's windows in groups of at most `size` that make about as much work: their boxes are about as large."""
    return list(torch.tensor_split(work.argsort(stable=True), math.ceil(len(work) / size)))


class _Plain:
    """The target (n,) for windows by their number, the whole network on each whole picture."""

    def __init__(self, network: Network, image: Tensor, target: Objective, fill: Tensor, rows: Tensor, columns: Tensor):
        self.network, self.image, self.target, self.fill, self.rows, self.columns = network, image, target, fill, rows, columns

    def __call__(
        self, windows: Tensor, progress: Callable[[int, int], None] = lambda done, total: None, batch: int = 16
    ) -> Tensor:
        values = []
        for some in windows.split(batch):
            images = self.image.repeat(len(some), 1, 1, 1)
            for image, number in zip(images, some.tolist(), strict=True):
                (top, bottom), (left, right) = (
                    self.rows[number // len(self.columns)].tolist(), self.columns[number % len(self.columns)].tolist(),
                )  # fmt: skip
                image[:, top:bottom, left:right] = self.fill[:, top:bottom, left:right]
            values.append(score(self.network, self.target, images).float().cpu())
            progress(sum(map(len, values)), len(windows))
        return torch.cat(values)


def _difference(plain: _Plain, scores: Tensor, check: int) -> float | None:
    """Largest difference from the plain way over `check` windows: the most important one and others spread evenly."""
    if check < 1:
        return None
    spread = torch.linspace(0, scores.numel() - 1, min(check, scores.numel())).round().long()
    spread[0] = scores.argmin()
    return float((plain(spread) - scores.flatten()[spread]).abs().max())


def spread_over(drops: Tensor, rows: Tensor, columns: Tensor, size: tuple[int, ...]) -> Tensor:
    """(H, W) mean over the windows that cover each pixel of drops (rows, columns)."""
    down, across = (
        ((torch.arange(pixels) >= places[:, :1]) & (torch.arange(pixels) < places[:, 1:])).to(drops)
        for pixels, places in zip(size, (rows, columns), strict=True)
    )
    return (down.T @ drops @ across) / (down.sum(0)[:, None] * across.sum(0))
