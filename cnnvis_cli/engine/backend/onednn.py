"""Layers of frozen weights on the CPU, forward and back, by oneDNN: convolutions with weights packed once, linear ones as they
are.

PyTorch hands oneDNN the weights as they lie; each call then packs them anew, in both directions. Weights that never change need
that once. The gradient with respect to the input of an unstrided convolution is itself a convolution (of the flipped weights),
so it takes the same fast path; that of a strided one with a wide kernel (a first layer's) is one too, phase by phase.
Linear layers gain from another library, not from packing: PyTorch hands them to BLAS, which is slower on some processors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

# Phases waste the taps that stick out of the kernel. Up to here a measured win: 7x7 stride 2, 11x11 stride 4; not 3x3 stride 2.
MOST_PHASE_WORK = 1.5
AVAILABLE = torch.backends.mkldnn.is_available() and all(
    hasattr(torch.ops.mkldnn, name) for name in ("_convolution_pointwise", "_reorder_convolution_weight")
)
PRODUCTS = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@dataclass(frozen=True)
class _Geometry:
    stride: tuple[int, int]
    padding: tuple[int, int]


def _packed(weight: Tensor, geometry: _Geometry, shape: torch.Size) -> Tensor:
    """Weights as the kernel for maps of that shape wants them. For maps of another shape they hold too, seldom more slowly."""
    weight = weight.contiguous(memory_format=torch.channels_last)
    return torch.ops.mkldnn._reorder_convolution_weight(weight, geometry.padding, geometry.stride, (1, 1), 1, shape)


def _run(maps: Tensor, packed: Tensor, bias: Tensor | None, geometry: _Geometry) -> Tensor:
    maps = maps.contiguous(memory_format=torch.channels_last)
    return torch.ops.mkldnn._convolution_pointwise(
        maps, packed, bias, geometry.padding, geometry.stride, (1, 1), 1, "none", [], ""
    )


class _Convolution:
    """One convolution's weights (O, C, k, l), packed for both directions at the first use of each."""

    def __init__(self, weight: Tensor, geometry: _Geometry) -> None:
        self.weight, self.version, self.geometry = weight, weight._version, geometry
        self.forward_weight: Tensor | None = None
        self.backward_weight: Tensor | None = None
        self.taps = tuple(-(-k // s) for k, s in zip(weight.shape[2:], geometry.stride, strict=True))
        work = self.taps[0] * self.taps[1] * geometry.stride[0] * geometry.stride[1]
        self.phases = work <= MOST_PHASE_WORK * weight.shape[2] * weight.shape[3] and geometry.stride[0] == geometry.stride[1]

    def __call__(self, maps: Tensor, bias: Tensor | None) -> Tensor:
        if self.forward_weight is None:
            self.forward_weight = _packed(self.weight, self.geometry, maps.shape)
        return _run(maps, self.forward_weight, bias, self.geometry)

    def gradient(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """With respect to the input, of that shape (B, C, H, W), from that of the output (B, O, h, w)."""
        if not self.phases:
            return self._plain_gradient(gradient, shape)
        # Input place s*q + r is reached by the taps s*t + r from the output places q - t: per phase r a convolution over q.
        step, (top, left) = self.geometry.stride[0], self.geometry.padding
        rows, columns = self.taps[0] - 1, self.taps[1] - 1
        exact = step == 1 and top <= rows and left <= columns  # then what padding added need not be computed to be cut off
        geometry = _Geometry((1, 1), (rows - top, columns - left) if exact else (rows, columns))
        if self.backward_weight is None:
            self.backward_weight = _packed(self._transposed(), geometry, gradient.shape)
        result = _run(gradient, self.backward_weight, None, geometry)
        if exact:
            return result
        result = F.pixel_shuffle(result, step) if step > 1 else result
        bottom, right = top + shape[2], left + shape[3]
        unseen = (0, max(0, right - result.shape[3]), 0, max(0, bottom - result.shape[2]))  # by any output place
        return F.pad(result, unseen)[:, :, top:bottom, left:right]

    def _plain_gradient(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        maps = gradient.new_empty(1).expand(shape)  # only its shape is read
        stride, padding = self.geometry.stride, self.geometry.padding
        return torch.ops.aten.convolution_backward(
            gradient, maps, self.weight, None, stride, padding, (1, 1), False, (0, 0), 1, (True, False, False)
        )[0]

    def _transposed(self) -> Tensor:
        """(C*s*s, O, t, u): the taps of each phase, in pixel_shuffle's order of channels."""
        (out, inner, height, width), (s, z) = self.weight.shape, self.geometry.stride
        t, u = self.taps
        taps = F.pad(self.weight.detach(), (0, u * z - width, 0, t * s - height))
        taps = taps.view(out, inner, t, s, u, z).flip(2, 4).permute(1, 3, 5, 0, 2, 4)
        return taps.reshape(inner * s * z, out, t, u)


def product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right.mT of matrices (B, n, k), (B, m, k); single float32 ones on the CPU by oneDNN, often twice as fast."""
    if not PRODUCTS or not _plain(left, right) or not len(left) == len(right) == 1:
        return left @ right.mT
    return _rows(left[0], right[0])[None]


def _rows(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """rows @ weight.mT + bias of matrices (N, k), (m, k), in any memory order."""
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")


def _plain(*tensors: Tensor) -> bool:
    """Whether they are float32 on the CPU, and no autocast would have it otherwise."""
    plain = all(one.dtype == torch.float32 and one.device.type == "cpu" for one in tensors)
    return plain and not torch.is_autocast_enabled("cpu")


class _Apply(torch.autograd.Function):
    """A packed convolution of maps (B, C, H, W); differentiable once, with respect to the maps only."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, bias: Tensor | None, convolution: _Convolution) -> Tensor:
        ctx.convolution, ctx.shape = convolution, maps.shape
        return convolution(maps, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.convolution.gradient(gradient, ctx.shape), None, None


class _Linear(torch.autograd.Function):
    """A linear layer of rows (N, in), weights (out, in); differentiable once, with respect to the rows only."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _rows(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return _rows(gradient, weight.mT), None, None


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


class PackedConvolutions(TorchFunctionMode):
    """Within the block, 2-D convolutions and linear layers of frozen float32 weights on the CPU run by oneDNN; all else is as
    it was.

    Left to PyTorch: groups, dilation, padding by name, autocast, weights that want gradients. Changed weights are packed anew.
    """

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[tuple[int, _Geometry], _Convolution] = {}

    def __deepcopy__(self, memo: dict) -> PackedConvolutions:
        return PackedConvolutions()  # what is packed belongs to the weights it was packed from

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is torch.conv2d or func is F.conv2d:
            result = self._convolve(*args, **(kwargs or {}))
            if result is not None:
                return result
        if func is F.linear:
            result = self._multiply(*args, **(kwargs or {}))
            if result is not None:
                return result
        return func(*args, **(kwargs or {}))

    def _convolve(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | Sequence[int] = 1,
        padding: str | int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> Tensor | None:
        if isinstance(padding, str) or groups != 1 or _pair(dilation) != (1, 1) or input.ndim != 4:
            return None
        if not AVAILABLE or weight.requires_grad or not _plain(input, weight):
            return None
        geometry = _Geometry(_pair(stride), _pair(padding))
        key = (id(weight), geometry)
        known = self.known.get(key)
        if known is None or known.weight is not weight or known.version != weight._version:
            known = self.known[key] = _Convolution(weight, geometry)
        return _Apply.apply(input, bias, known)

    @staticmethod
    def _multiply(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
        learns = weight.requires_grad or (bias is not None and bias.requires_grad)
        if not PRODUCTS or learns or not _plain(input, weight):
            return None
        if input.ndim < 2 or weight.ndim != 2 or input.shape[-1] != weight.shape[1] or not input.numel():
            return None  # PyTorch says best what does not fit
        return _Linear.apply(input.flatten(0, -2), weight, bias).view(*input.shape[:-1], len(weight))
