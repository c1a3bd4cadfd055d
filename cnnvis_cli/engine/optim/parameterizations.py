"""Parameterizations: how the picture that is optimized is written down.

Each gives pictures (B, 3, H, W), sRGB in [0, 1], from tensors that the loop changes. The choice changes no maximum, only which
of them is found: the gradient in the Fourier basis favours what natural pictures have (Olah et al. 2017, "Preconditioning").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from cnnvis_cli.engine.optim.natural import Spectrum

# A square root of the covariance of ImageNet's colours (as lucid has it), scaled so that its largest column has norm 1.
_COLOR_SQRT = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
COLOR_CORRELATION = _COLOR_SQRT / _COLOR_SQRT.norm(dim=0).max()


class Parameterization(Protocol):
    """What the loop needs of a parameterization."""

    def parameters(self) -> list[Tensor]:
        """Leaf tensors that require gradients."""

    def __call__(self) -> Tensor:
        """The pictures (B, 3, H, W), differentiable in the parameters."""

    def project(self) -> None:
        """Bring the parameters back to where pictures are allowed, in place."""


def noise(seeds: Sequence[int], *shape: int) -> Tensor:
    """Standard Gaussian noise (len(seeds), *shape). Each picture depends on its own seed alone, so a tile of a sheet is the
    same as the single render."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


class Pixels:
    """The pixels themselves, clamped to [0, 1] after every step."""

    def __init__(self, start: Tensor) -> None:
        self._pixels = start.detach().clone().contiguous().requires_grad_()

    def parameters(self) -> list[Tensor]:
        return [self._pixels]

    def __call__(self) -> Tensor:
        return self._pixels

    @torch.no_grad()
    def project(self) -> None:
        self._pixels.clamp_(0, 1)

    @torch.no_grad()
    def assign(self, pictures: Tensor) -> None:
        """Overwrite the pixels: what blurring and clipping of pixels do between steps."""
        self._pixels.copy_(pictures)


class Fourier:
    """Fourier coefficients of decorrelated colours, scaled to equal energy at each frequency, through a sigmoid.

    Olah et al. 2017; the scale is 1 / max(f, 1 / max(H, W))^decay. With `correlated=False` the colours are plain RGB.
    """

    def __init__(
        self, spectrum: Tensor, height: int, width: int, *, decay: float = 1.0, correlated: bool = True, gain: float = 0.25
    ) -> None:
        self._size = (height, width)
        device = spectrum.device
        self._scale = self.scale(height, width, decay).to(device) * gain
        self._colors = (COLOR_CORRELATION if correlated else torch.eye(3)).to(device)
        self._spectrum = spectrum.detach().clone().requires_grad_()

    @staticmethod
    def scale(height: int, width: int, decay: float = 1.0) -> Tensor:
        """(H, W // 2 + 1) weight of each coefficient of the orthonormal transform."""
        fy = torch.fft.fftfreq(height)[:, None]
        fx = torch.fft.rfftfreq(width)[None, :]
        frequency = (fy.square() + fx.square()).sqrt().clamp_min(1.0 / max(height, width))
        return frequency.pow(-decay)

    @classmethod
    def from_noise(
        cls,
        seeds: Sequence[int],
        height: int,
        width: int,
        *,
        std: float = 0.01,
        device: torch.device | str = "cpu",
        decay: float = 1.0,
        correlated: bool = True,
    ) -> Fourier:
        """One picture per seed, of random coefficients of standard deviation `std`: almost grey."""
        spectrum = std * noise(seeds, 3, height, width // 2 + 1, 2)
        return cls(spectrum.to(device), height, width, decay=decay, correlated=correlated)

    @classmethod
    def from_pictures(cls, start: Tensor, *, decay: float = 1.0, correlated: bool = True) -> Fourier:
        """The coefficients of given pictures (B, 3, H, W), so that the first picture is the start (up to clipping at 0.01)."""
        height, width = start.shape[-2:]
        empty = torch.zeros(len(start), 3, height, width // 2 + 1, 2, device=start.device)
        image = cls(empty, height, width, decay=decay, correlated=correlated)
        colors = torch.einsum("dc,bchw->bdhw", torch.linalg.inv(image._colors), torch.logit(start.clamp(0.01, 0.99)))
        spectrum = torch.fft.rfft2(colors, norm="ortho") / image._scale
        with torch.no_grad():
            image._spectrum.copy_(torch.view_as_real(spectrum))
        return image

    def parameters(self) -> list[Tensor]:
        return [self._spectrum]

    def __call__(self) -> Tensor:
        spectrum = torch.view_as_complex(self._spectrum) * self._scale
        colors = torch.fft.irfft2(spectrum, s=self._size, norm="ortho")
        return torch.einsum("dc,bchw->bdhw", self._colors, colors).sigmoid()

    def project(self) -> None:
        """Every set of coefficients is a picture."""


class Phases:
    """Free phases over magnitudes that are those of natural pictures (MACO: Fel et al. 2023, section 3).

    A picture can then neither be noise nor flat. The paper standardizes the result and lets a sigmoid saturate; here colours
    and contrast are the natural ones, and the sigmoid bends only what would leave [0, 1].
    """

    def __init__(self, phases: Tensor, spectrum: Spectrum, height: int, width: int) -> None:
        """`phases` (B, 3, H, W // 2 + 1) in radians."""
        self._size, self._spectrum = (height, width), spectrum
        self._phases = phases.detach().clone().requires_grad_()

    @classmethod
    def from_noise(cls, seeds: Sequence[int], height: int, width: int, spectrum: Spectrum) -> Phases:
        """One picture per seed, of random phases."""
        phases = math.pi * noise(seeds, 3, height, width // 2 + 1)
        return cls(phases.to(spectrum.magnitude), spectrum, height, width)

    def parameters(self) -> list[Tensor]:
        return [self._phases]

    def __call__(self) -> Tensor:
        waves = torch.polar(self._spectrum.magnitude.expand_as(self._phases), self._phases)
        axes = torch.fft.irfft2(waves, s=self._size, norm="ortho")
        colors = torch.einsum("dc,bchw->bdhw", self._spectrum.colors, axes)
        middle = torch.logit(self._spectrum.mean.clamp(0.05, 0.95)).view(1, 3, 1, 1)
        return (middle + 4 * colors).sigmoid()

    def project(self) -> None:
        """Any phases are a picture."""


class Perturbed(Pixels):
    """A given picture plus a perturbation of bounded norm, kept within [0, 1].

    `norm`: "linf" (largest change of a value) or "l2" (Euclidean length over the whole picture), both for values in [0, 1].
    """

    def __init__(self, base: Tensor, epsilon: float | Tensor, norm: str = "linf", start: Tensor | None = None) -> None:
        self._base = base.detach()
        self._epsilon = torch.as_tensor(epsilon, dtype=base.dtype, device=base.device).view(-1, 1, 1, 1)
        self._norm = norm
        super().__init__(base if start is None else start)
        self.project()

    @torch.no_grad()
    def project(self) -> None:
        change = within(self._pixels - self._base, self._epsilon, self._norm)
        self._pixels.copy_((self._base + change).clamp(0, 1))


class Box:
    """(tanh(w) + 1) / 2 of any numbers w: a picture always within [0, 1] (Carlini and Wagner 2017, change of variables)."""

    def __init__(self, start: Tensor) -> None:
        inside = (2 * start.detach() - 1) * 0.999999
        self._numbers = inside.atanh().contiguous().requires_grad_()

    def parameters(self) -> list[Tensor]:
        return [self._numbers]

    def __call__(self) -> Tensor:
        return (self._numbers.tanh() + 1) / 2

    def project(self) -> None:
        """All numbers are pictures."""


class Shared:
    """One bounded change for a whole set of pictures (B, 3, H, W); norms as for `Perturbed`."""

    def __init__(self, base: Tensor, epsilon: float, norm: str = "linf") -> None:
        self._base = base.detach()
        self._epsilon = epsilon
        self._norm = norm
        self.change = torch.zeros_like(base[:1]).contiguous().requires_grad_()

    def parameters(self) -> list[Tensor]:
        return [self.change]

    def __call__(self) -> Tensor:
        return (self._base + self.change).clamp(0, 1)

    @torch.no_grad()
    def project(self) -> None:
        self.change.copy_(within(self.change, self._epsilon, self._norm))


def within(change: Tensor, epsilon: float | Tensor, norm: str) -> Tensor:
    """Changes (B, 3, H, W) brought into the ball of radius `epsilon` (a number, or (B, 1, 1, 1))."""
    bound = torch.as_tensor(epsilon, dtype=change.dtype, device=change.device)
    if norm == "linf":
        return torch.maximum(torch.minimum(change, bound), -bound)
    lengths = change.flatten(1).norm(dim=1).view(-1, 1, 1, 1).clamp_min(1e-12)
    return change * (bound / lengths).clamp_max(1)


def load_parameters(image: Parameterization, values: Sequence[Tensor]) -> None:
    """Overwrite an image's parameters, as when a run is resumed."""
    with torch.no_grad():
        for parameter, value in zip(image.parameters(), values, strict=True):
            parameter.copy_(value)
