"""Textures without a network: pixels or blocks of the exemplar, put where they fit.

`grow`: Efros and Leung 1999, pixel by pixel from a seed. `quilt`: Efros and Freeman 2001, block by block with cuts of least
error. Pictures are (1, 3, H, W), sRGB in [0, 1]; with `tileable` the opposite sides are neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.engine.errors import UserError

# Candidates up to (1 + TOLERANCE) times the smallest error are as good as the best (Efros and Leung's epsilon).
TOLERANCE = 0.1


def _check(exemplar: Tensor, width: int, what: str) -> None:
    if min(exemplar.shape[-2:]) < width + 2:
        raise UserError(
            f"the exemplar is {exemplar.shape[3]} x {exemplar.shape[2]} px; {what} {width} needs at least {width + 2}."
        )


def _candidates(exemplar: Tensor, window: int) -> Tensor:
    """(K, 3, window, window): every square of the exemplar."""
    squares = F.unfold(exemplar, window)[0].T
    return squares.view(len(squares), 3, window, window)


def _pick(errors: Tensor, nearest: int, generator: torch.Generator) -> Tensor:
    """(N,) for each row of errors (N, K): one of its `nearest` smallest, of those within the tolerance of the smallest."""
    best, where = errors.topk(min(nearest, errors.shape[1]), dim=1, largest=False)
    allowed = best <= best[:, :1].clamp_min(0) * (1 + TOLERANCE) + 1e-9
    chance = torch.rand(best.shape, generator=generator).to(errors.device)
    return where.gather(1, torch.where(allowed, chance, -1.0).argmax(1, keepdim=True))[:, 0]


def _nothing(pixels: int) -> None:
    pass


def grow(
    exemplar: Tensor,
    height: int,
    width: int,
    *,
    window: int = 11,
    nearest: int = 8,
    seed: int = 0,
    tileable: bool = False,
    progress: Callable[[int], None] = _nothing,
) -> Tensor:
    """Efros and Leung 1999: each pixel is the centre of the exemplar's square whose known neighbours match best.

    Squares of `window` pixels (odd), compared under a Gaussian of a sixth of that (6.4 in the paper). Ours: pixels at the edge
    of what is known are matched in batches, at least half a window apart, instead of one by one; one of the `nearest` within
    the paper's tolerance is drawn. `progress` gets the number of pixels that are done.
    """
    _check(exemplar, window, "a window of")
    generator = torch.Generator().manual_seed(seed)
    half = window // 2
    squares = _candidates(exemplar, window)
    centres = squares[:, :, half, half]
    flat = squares.flatten(2)
    axis = torch.arange(window, device=exemplar.device) - half
    falloff = torch.exp(-(axis[:, None].square() + axis[None, :].square()) / (2 * (window / 6.4) ** 2)).flatten()
    energies = flat.square().sum(1).T  # (window^2, K)
    flat = flat.flatten(1).T.contiguous()  # (3 window^2, K)

    canvas, known = _seeded(exemplar, height, width, generator)
    count = 0
    for ys, xs in _order(known, half, tileable):
        patch, mask = _around(canvas, known, ys, xs, half, tileable)
        weight = mask * falloff
        products = (patch * weight[:, None]).flatten(1) @ flat
        errors = (weight @ energies - 2 * products + (patch.square().sum(1) * weight).sum(1, keepdim=True)).clamp_min(0)
        canvas[:, ys, xs] = centres[_pick(errors / weight.sum(1, keepdim=True), nearest, generator)].T
        known[ys, xs] = 1
        count += len(ys)
        progress(count)
    return canvas[None]


def _seeded(exemplar: Tensor, height: int, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """An empty canvas with a random 3x3 square of the exemplar in its middle, and what is known of it."""
    rows, cols = exemplar.shape[-2:]
    y, x = (int(torch.randint(0, length - 2, (), generator=generator)) for length in (rows, cols))
    canvas = torch.zeros(3, height, width, device=exemplar.device)
    known = torch.zeros(height, width, device=exemplar.device)
    middle = (slice(height // 2 - 1, height // 2 + 2), slice(width // 2 - 1, width // 2 + 2))
    canvas[:, middle[0], middle[1]] = exemplar[0, :, y : y + 3, x : x + 3]
    known[middle] = 1
    return canvas, known


def _order(known: Tensor, half: int, tileable: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of unknown pixels that touch known ones, the best surrounded first, no two of a batch close together."""
    height, width = known.shape
    spread = half + 1
    phases = (
        torch.arange(height, device=known.device)[:, None] % spread * spread + torch.arange(width, device=known.device) % spread
    )
    mode = "circular" if tileable else "constant"
    while not bool(known.all()):
        counts = F.avg_pool2d(F.pad(known[None, None], [1] * 4, mode=mode), 3, stride=1)[0, 0] * (1 - known)
        ys, xs = (counts > 0).nonzero(as_tuple=True)
        phase = phases[ys, xs]
        for one in phase.unique().tolist():
            here = phase == one
            yield ys[here], xs[here]


def _around(canvas: Tensor, known: Tensor, ys: Tensor, xs: Tensor, half: int, tileable: bool) -> tuple[Tensor, Tensor]:
    """Squares (N, 3, window^2) around pixels and (N, window^2) which of their pixels are known."""
    height, width = known.shape
    offsets = torch.arange(-half, half + 1, device=canvas.device)
    rows, cols = ys[:, None] + offsets, xs[:, None] + offsets
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((cols >= 0) & (cols < width))[:, None, :]
    rows, cols = rows.remainder(height)[:, :, None], cols.remainder(width)[:, None, :]
    mask = known[rows, cols] * (1.0 if tileable else inside)
    return canvas[:, rows, cols].flatten(2).movedim(0, 1), mask.flatten(1)


def quilt(
    exemplar: Tensor,
    height: int,
    width: int,
    *,
    block: int = 24,
    nearest: int = 8,
    seed: int = 0,
    tileable: bool = False,
    progress: Callable[[int], None] = _nothing,
) -> Tensor:
    """Efros and Freeman 2001: blocks that overlap by a sixth, each chosen to fit what is there and joined along the cut of
    least error. Ours: with `tileable` the last blocks also overlap the first ones."""
    _check(exemplar, block, "blocks of")
    generator = torch.Generator().manual_seed(seed)
    overlap = max(2, block // 6)
    squares = _candidates(exemplar, block)
    flat = squares.flatten(1).T.contiguous()
    energies = squares.square().sum(1).flatten(1).T.contiguous()
    tops, lefts = (_starts(length, block, overlap, tileable) for length in (height, width))
    rows = height if tileable else tops[-1] + block
    cols = width if tileable else lefts[-1] + block
    canvas = torch.zeros(3, rows, cols, device=exemplar.device)
    known = torch.zeros(rows, cols, device=exemplar.device)
    span = torch.arange(block, device=exemplar.device)
    for top in tops:
        for left in lefts:
            ys, xs = ((top + span) % rows)[:, None], ((left + span) % cols)[None, :]
            there, mask = canvas[:, ys, xs], known[ys, xs]
            if bool(mask.any()):
                errors = mask.flatten() @ energies - 2 * (there * mask).flatten() @ flat + (there.square() * mask).sum()
                chosen = squares[_pick(errors[None].clamp_min(0), nearest, generator)[0]]
                mask = _kept(there, chosen, mask, overlap)
            else:
                chosen = squares[torch.randint(0, len(squares), (), generator=generator)]
            canvas[:, ys, xs] = torch.where(mask > 0, there, chosen)
            known[ys, xs] = 1
        progress(min(height, top + block) * width)
    return canvas[None, :, :height, :width]


def _starts(length: int, block: int, overlap: int, tileable: bool) -> list[int]:
    """Where blocks begin along one side; on a torus evenly, so that the last one overlaps the first."""
    step = block - overlap
    count = max(1, -(-length // step) if tileable else -(-(length - overlap) // step))
    if tileable:
        return [round(i * length / count) for i in range(count)]
    return [i * step for i in range(count)]


def _kept(there: Tensor, new: Tensor, mask: Tensor, overlap: int) -> Tensor:
    """(block, block) 1 where what is there stays: on the outer side of the cut of least error along each side that is known."""
    error = (there - new).square().sum(0)
    kept = torch.zeros_like(mask)
    for turns in range(4):  # left, then the other sides, by turning the block until each lies left
        turned, known = torch.rot90(error, turns), torch.rot90(mask, turns)
        wide = int(known[:, : known.shape[1] // 2].bool().all(0).long().cumprod(0).sum())
        if wide:
            kept = torch.maximum(kept, torch.rot90(_cut(turned[:, :wide], known.shape[1]), -turns))
    return kept * mask


def _cut(error: Tensor, width: int) -> Tensor:
    """(H, width) 1 left of the path of least error from the top of an overlap (H, n) to its bottom, by dynamic programming."""
    cost = [error[0]]
    for row in error[1:]:
        before = F.pad(cost[-1][None], (1, 1), value=torch.inf)[0]
        cost.append(row + torch.stack([before[:-2], before[1:-1], before[2:]]).amin(0))
    kept = torch.zeros(len(error), width, device=error.device)
    at = int(cost[-1].argmin())
    for row in range(len(error) - 1, -1, -1):
        kept[row, :at] = 1
        if row:
            low = max(0, at - 1)
            at = low + int(cost[row - 1][low : at + 2].argmin())
    return kept
