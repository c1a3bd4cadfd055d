"""Pictures on a canvas larger than the network: their natural spectrum, what in them mattered, and how the rest fades."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cnnvis_cli.engine.optim.natural import Spectrum, natural_spectrum
from cnnvis_cli.engine.pixels import gaussian_blur
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures.find import find_pictures
from cnnvis_cli.pictures.read import to_square

Change = Callable[[Tensor], Tensor]

# Photographs of things, places and a person, whose mean spectrum is as good as any; `pictures=FOLDER` takes others.
NATURAL = tuple(f"sample:{name}" for name in ("astronaut", "chelsea", "china", "coffee", "flower", "motorcycle", "rocket"))
# Brightness of the paper that unimportant places fade into, and the quantiles of importance between which they do.
PAPER, FADED, CLEAR = 1.0, 0.3, 0.85


def spectrum_of(job: Job, pictures: str, size: int) -> Spectrum:
    """The mean spectrum of the pictures of a folder, or of the sample photographs, for a canvas of size x size."""
    sources = find_pictures(pictures or NATURAL)
    if len(sources) < 2:
        raise UserError(f"pictures={pictures} is one picture; a spectrum is a mean over several.")
    squares = [to_square(job.inputs.read(source), size) for source in sources]
    return natural_spectrum(torch.cat(squares))


class Importance:
    """Sums over the steps of a loop how much each pixel's gradient weighs: (B, 1, H, W). Comes back when a run is resumed."""

    def __init__(self, job: Job, key: str, count: int, size: int) -> None:
        empty = torch.zeros(count, 1, size, size, device=job.inputs.device)
        before = job.resume.get(f"importance {key}")
        self.sums = job.resume.keep(f"importance {key}", empty if before is None else before.to(empty))

    def note(self, gradient: Tensor) -> Tensor:
        """For the loop's `gradient`: looks at it and passes it on."""
        self.sums += gradient.abs().mean(1, keepdim=True)
        return gradient


def faded(pictures: Tensor, importance: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) on white paper, opaque where the importance (B, 1, H, W) is large (Fel et al. 2023, section 3.2:
    there as transparency)."""
    side = pictures.shape[-1]
    smooth = gaussian_blur(importance, max(1, side // 16), side / 40).flatten(1)
    low, high = (smooth.quantile(share, dim=1)[:, None] for share in (FADED, CLEAR))
    share = ((smooth - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    opacity = (share * share * (3 - 2 * share)).view_as(importance)
    return pictures * opacity + PAPER * (1 - opacity)


def both(
    first: Callable[[Tensor], Tensor] | None, second: Callable[[Tensor], Tensor] | None
) -> Callable[[Tensor], Tensor] | None:
    """Two changes of a gradient, one after the other."""
    steps = [step for step in (first, second) if step is not None]
    if len(steps) < 2:
        return steps[0] if steps else None
    return lambda gradient: steps[1](steps[0](gradient))
