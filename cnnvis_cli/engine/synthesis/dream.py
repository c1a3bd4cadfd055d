"""Deep dream (Mordvintsev, Olah, Tyka 2015): raise what a layer sees in a picture, over octaves.

At each size the picture is that size's original plus the details found so far. The steps themselves are the loop's, with
normalised gradients; what is particular to dreams is here: octaves, smoothing, guides, zooming.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.engine.optim.loop import Gradient, Loop, Stage
from cnnvis_cli.engine.optim.objectives import Objective, Term
from cnnvis_cli.engine.optim.optimizers import mean_magnitude
from cnnvis_cli.engine.optim.regularizers import gaussian_blur
from cnnvis_cli.engine.optim.transforms import Transform


def octave_sizes(height: int, width: int, count: int, scale: float, smallest: int) -> list[tuple[int, int]]:
    """(height, width) of each octave, smallest first; the last is the picture's own. None is below `smallest` on its short
    side, so there may be fewer than `count`."""
    sizes = [(round(height / scale**i), round(width / scale**i)) for i in range(count)]
    return [size for i, size in enumerate(sizes) if i == 0 or min(size) >= smallest][::-1]


def resampled(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Antialiased bicubic resampling of (B, 3, H, W), of details too: values are not clamped."""
    if tuple(pictures.shape[-2:]) == size:
        return pictures
    return F.interpolate(pictures, size, mode="bicubic", antialias=True, align_corners=False)


def octaves(picture: Tensor, sizes: Sequence[tuple[int, int]], make_loop: Callable[[Tensor], Loop]) -> list[Stage]:
    """One stage per size. `make_loop` gives the loop that starts from given pictures (1, 3, h, w).

    The details, which are what the octave before has added to its original, are put onto the original at the new size. So
    the picture keeps its own sharpness however often it is resampled.
    """

    def stage(number: int) -> Stage:
        def make(previous: Tensor | None) -> Loop:
            base = resampled(picture, sizes[number])
            if previous is not None:
                base = base + resampled(previous - resampled(picture, sizes[number - 1]).clamp(0, 1), sizes[number])
            return make_loop(base.clamp(0, 1))

        return make

    return [stage(number) for number in range(len(sizes))]


def smoothing(sigma: float) -> Gradient:
    """Equal parts of the gradient's detail and of its blurs by `sigma` and 2 `sigma` pixels, each over its mean magnitude:
    a cheap form of dividing the bands of a Laplacian pyramid by their strength, so that fine strokes do not win alone.

    Its mean over the picture, for each colour, is taken out: first layers would dye the whole picture, and see nothing more.
    """

    def change(gradient: Tensor) -> Tensor:
        gradient = gradient - gradient.mean((2, 3), keepdim=True)
        bands = [gradient, gaussian_blur(gradient, sigma), gaussian_blur(gradient, 2 * sigma)]
        return torch.stack([band / mean_magnitude(band) for band in bands]).mean(0)

    return change


def mirrored_jitter(pixels: int) -> Transform:
    """Shift by up to `pixels` each way in whole pixels; what enters at a border is its mirror image, so that neither the
    padding of convolutions nor the opposite border leaves a frame."""

    def apply(pictures: Tensor, generator: torch.Generator) -> Tensor:
        height, width = pictures.shape[-2:]
        reach = min(pixels, height - 1, width - 1)
        dy, dx = torch.randint(0, 2 * reach + 1, (2,), generator=generator).tolist()
        return F.pad(pictures, [reach] * 4, mode="reflect")[..., dy : dy + height, dx : dx + width]

    return apply


def guided(layer: str, features: Tensor) -> Objective:
    """Mean over positions of the product with that feature of a guide (1, C, h, w) which fits best: the published guided
    dream (its gradient is the best fitting feature itself)."""
    known = features.detach()[0].flatten(1)

    def value(acts: dict[str, Tensor]) -> Tensor:
        maps = acts[layer].flatten(2)
        with torch.no_grad():
            best = [torch.cat([(part.T @ known).argmax(1) for part in one.split(4096, 1)]) for one in maps]
        return torch.stack([(one * known[:, index]).sum(0).mean() for one, index in zip(maps, best, strict=True)])

    return Objective(frozenset([layer]), value, (Term("guided", layer),))  # type: ignore[arg-type]


def zoomed(pictures: Tensor, factor: float) -> Tensor:
    """The middle 1 / factor of pictures (B, 3, H, W), enlarged to their size."""
    theta = torch.eye(2, 3, dtype=pictures.dtype, device=pictures.device)[None] / factor
    grid = F.affine_grid(theta.expand(len(pictures), 2, 3), list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(0, 1)


def toned(pictures: Tensor, like: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) with the mean and the standard deviation that each colour has in `like`: dreaming on and on
    would end in pure colours."""
    means, spreads = pictures.mean((2, 3), keepdim=True), pictures.std((2, 3), keepdim=True).clamp_min(1e-6)
    toned = (pictures - means) / spreads * like.std((2, 3), keepdim=True) + like.mean((2, 3), keepdim=True)
    return toned.clamp(0, 1)
