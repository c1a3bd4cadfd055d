"""Layers of frozen weights on the CPU, forward and back, by oneDNN: convolutions with weights packed once, linear ones as they
are. PyTorch's private calls stand here alone; each layer compares its first answers with PyTorch's own and gives way to them.

PyTorch hands oneDNN the weights as they lie; each call then packs them anew, in both directions. Weights that never change need
that once. The gradient with respect to the input of an unstrided convolution is itself a convolution (of the flipped weights),
so it takes the same fast path; that of a strided one with a wide kernel (a first layer's) is one too, phase by phase.
Linear layers gain from another library, not from packing: PyTorch hands them to BLAS, which is slower on some processors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
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
    """One convolution's weights (O, C, k, l), packed for both directions at the first use of each.

    `sign`: what tells whether the weights are still those that were packed. `trusted`: in each direction, whether the numbers
    were those of PyTorch at the first use; None before it.
    """

    def __init__(self, weight: Tensor, geometry: _Geometry, sign: Tensor) -> None:
        self.weight, self.geometry, self.sign = weight, geometry, sign
        self.forward_weight: Tensor | None = None
        self.backward_weight: Tensor | None = None
        self.trusted: dict[str, bool] = {}
        self.taps = tuple(-(-k // s) for k, s in zip(weight.shape[2:], geometry.stride, strict=True))
        work = self.taps[0] * self.taps[1] * geometry.stride[0] * geometry.stride[1]
        self.phases = work <= MOST_PHASE_WORK * weight.shape[2] * weight.shape[3] and geometry.stride[0] == geometry.stride[1]

    def __call__(self, maps: Tensor, bias: Tensor | None) -> Tensor:
        def plain() -> Tensor:
            return F.conv2d(maps, self.weight, bias, self.geometry.stride, self.geometry.padding)

        return self._checked("forward", lambda: self._packed_output(maps, bias), plain)

    def _packed_output(self, maps: Tensor, bias: Tensor | None) -> Tensor:
        if self.forward_weight is None:
            self.forward_weight = _packed(self.weight, self.geometry, maps.shape)
        return _run(maps, self.forward_weight, bias, self.geometry)

    def gradient(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """With respect to the input, of that shape (B, C, H, W), from that of the output (B, O, h, w)."""
        if not self.phases:
            return self._plain_gradient(gradient, shape)
        fast, plain = partial(self._packed_gradient, gradient, shape), partial(self._plain_gradient, gradient, shape)
        return self._checked("backward", fast, plain)

    def _checked(self, direction: str, fast: Callable[[], Tensor], plain: Callable[[], Tensor]) -> Tensor:
        """The fast answer, or PyTorch's where the first fast one differed from it or failed."""
        if direction not in self.trusted:
            wanted = plain()
            try:
                found = fast()
                self.trusted[direction] = _same(found, wanted)
            except RuntimeError:
                self.trusted[direction] = False
            return found if self.trusted[direction] else wanted
        return fast() if self.trusted[direction] else plain()

    def _packed_gradient(self, gradient: Tensor, shape: torch.Size) -> Tensor:
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


def _same(found: Tensor, wanted: Tensor) -> bool:
    """Whether two results are the same but for the order of sums."""
    largest = wanted.abs().amax().clamp_min(1e-30) if wanted.numel() else 1.0
    return found.shape == wanted.shape and bool(((found - wanted).abs() <= 1e-3 * largest).all())


def _sign(weight: Tensor) -> Tensor:
    """(O,) numbers that change with any weight: a projection of each filter on a fixed random direction."""
    rows = weight.permute(0, 2, 3, 1).flatten(1)
    direction = torch.randn(rows.shape[1], generator=torch.Generator().manual_seed(0))
    return rows @ direction.to(rows)


class Switch:
    """Whether the layers of one network compute by oneDNN. Holds what is packed, so that a copy of the network packs anew."""

    def __init__(self) -> None:
        self.on = True
        self.packed: WeakKeyDictionary[nn.Module, _Convolution] = WeakKeyDictionary()

    def __deepcopy__(self, memo: dict) -> Switch:
        return Switch()

    def convolution(self, module: nn.Conv2d, geometry: _Geometry) -> _Convolution:
        """The module's packed weights; weights that were changed in whatever way are packed anew."""
        known, sign = self.packed.get(module), _sign(module.weight)
        if known is None or known.geometry != geometry or not torch.equal(known.sign, sign):
            known = self.packed[module] = _Convolution(module.weight.detach(), geometry, sign)
        return known


class Conv2d(nn.Conv2d):
    """A convolution that computes by oneDNN where it may; else it is torch's."""

    switch: Switch

    def forward(self, input: Tensor) -> Tensor:
        frozen = not (self.weight.requires_grad or (self.bias is not None and self.bias.requires_grad))
        if not (self.switch.on and AVAILABLE and frozen and input.ndim == 4 and _plain(input, self.weight)):
            return super().forward(input)
        top, left = _pair(self.padding)  # type: ignore[arg-type]
        stride = _pair(self.stride)
        if self.padding_mode != "zeros":
            input = F.pad(input, (left, left, top, top), mode=self.padding_mode)
            top = left = 0
        if min(input.shape[2] + 2 * top - self.weight.shape[2], input.shape[3] + 2 * left - self.weight.shape[3]) < 0:
            return super().forward(input)  # PyTorch says best what does not fit
        return _Apply.apply(input, self.bias, self.switch.convolution(self, _Geometry(stride, (top, left))))


class Linear(nn.Linear):
    """A linear layer that computes by oneDNN where it may; else it is torch's."""

    switch: Switch

    def forward(self, input: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        frozen = not (weight.requires_grad or (bias is not None and bias.requires_grad))
        fits = input.ndim >= 2 and input.numel() > 0 and input.shape[-1] == weight.shape[1]
        if not (self.switch.on and PRODUCTS and frozen and fits and _plain(input, weight)):
            return super().forward(input)
        return _Linear.apply(input.flatten(0, -2), weight, bias).view(*input.shape[:-1], len(weight))


def accelerate(module: nn.Module) -> Switch:
    """Make the plain convolutions and linear layers of a frozen module compute by oneDNN on the CPU, in place; the switch turns
    that off and on. Names, weights, hooks and the layers' own type names stay.

    Left as they are: layers whose weights are computed (parametrized, normalized), groups, dilation, padding by name.
    """
    switch = Switch()
    for child in module.modules():
        if not isinstance(child._parameters.get("weight"), nn.Parameter) or child._forward_pre_hooks:
            continue
        if type(child) is nn.Conv2d:
            plain = child.groups == 1 and _pair(child.dilation) == (1, 1)
            if plain and not isinstance(child.padding, str):
                child.__class__ = Conv2d
                child.switch = switch  # type: ignore[assignment]
        elif type(child) is nn.Linear:
            child.__class__ = Linear
            child.switch = switch  # type: ignore[assignment]
    return switch


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


class PackedFunctions(TorchFunctionMode):
    """Within the block, plain convolutions and linear layers that are called as functions, of frozen weights that do not change
    for as long as this lives, compute by oneDNN: what a taped run is made of."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[tuple[int, _Geometry], _Convolution] = {}

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = None
        if func in (torch.conv2d, F.conv2d):
            result = self._convolve(*args, **(kwargs or {}))
        elif func is F.linear:
            result = self._multiply(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if result is None else result

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
        plain = not isinstance(padding, str) and groups == 1 and _pair(dilation) == (1, 1) and input.ndim == 4
        if not plain or not AVAILABLE or weight.requires_grad or not _plain(input, weight):
            return None
        geometry = _Geometry(_pair(stride), _pair(padding))  # type: ignore[arg-type]
        known = self._known.get((id(weight), geometry))
        if known is None:  # it holds the weights, so that their id stays theirs
            known = self._known[id(weight), geometry] = _Convolution(weight, geometry, weight)
        return known(input, bias)

    @staticmethod
    def _multiply(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
        fits = input.ndim >= 2 and weight.ndim == 2 and input.numel() > 0 and input.shape[-1] == weight.shape[1]
        if not PRODUCTS or weight.requires_grad or not fits or not _plain(input, weight):
            return None
        return _rows(input.flatten(0, -2), weight, bias).view(*input.shape[:-1], len(weight))
