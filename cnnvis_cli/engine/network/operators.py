"""What the functions of tensors do with places: the one table that receptive fields, incremental evaluation, tiles and guided
gradients read. A function that is not in it is reported, not guessed.

Functions are known by one name however they are spelled: in place (`relu_`), private (`_softmax`), by a module, or as the
kernel that PyTorch runs (`convolution`, `native_batch_norm`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

# pointwise: each place from the same place of the inputs (broadcast), whatever is done with channels. window: each place from
# a window around it. adaptive: from a share of the map. reshape, permutation: the same values in another shape or order.
# parts: values side by side or taken apart. selection: some of the values. reduction: over the dimensions given. mixing: of
# the shape it had, each value from all along the dimensions given. matrix: rows kept, features mixed. resampling: places from
# others nearby.
Kind = Literal[
    "pointwise",
    "window",
    "adaptive",
    "reshape",
    "permutation",
    "parts",
    "selection",
    "reduction",
    "mixing",
    "matrix",
    "resampling",
]
# always: zero below zero and as it is above. bounded: where its lower bound is 0. smooth: no clear point from which it is shut.
Rectifier = Literal["", "always", "bounded", "smooth"]


@dataclass(frozen=True)
class Operator:
    """`name` as a reader would write it; `kind` and `rectifier` as above."""

    name: str
    kind: Kind
    rectifier: Rectifier = ""


_NAMES: dict[Kind, str] = {
    "pointwise": """
        add sub mul div rsub true_divide neg pow sqrt rsqrt exp log abs maximum minimum square sign where reciprocal
        floor_divide sigmoid hardsigmoid batch_norm dropout dropout2d feature_dropout alpha_dropout local_response_norm
        contiguous clone float to detach alias lift_fresh expand type_as masked_fill addcmul lerp
    """,
    "window": "conv2d conv_transpose2d max_pool2d avg_pool2d",
    "adaptive": "adaptive_avg_pool2d adaptive_max_pool2d",
    "reshape": "view reshape unsqueeze squeeze flatten unflatten",
    "permutation": "permute transpose t movedim",
    "parts": "cat split split_with_sizes chunk",
    "selection": "unbind select slice stack __getitem__",
    "reduction": "mean sum amax amin max min var std norm",
    "mixing": "softmax log_softmax layer_norm group_norm normalize",
    "matrix": "linear addmm mm matmul bmm scaled_dot_product_attention",
    "resampling": "pad interpolate pixel_shuffle roll",
}
_RECTIFIERS: dict[Rectifier, str] = {
    "always": "relu relu6 clamp_min",
    "bounded": "hardtanh clamp clamp_max clip threshold",
    "smooth": "silu gelu mish elu selu celu leaky_relu prelu softplus hardswish tanh rrelu glu",
}
# The kernels' own names for what stands above.
_KERNELS = {
    "convolution": "conv2d",
    "max_pool2d_with_indices": "max_pool2d",
    "native_batch_norm": "batch_norm",
    "native_batch_norm_legit_no_training": "batch_norm",
    "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm",
    "native_dropout": "dropout",
    "unsafe_view": "view",
    "reshape_alias": "reshape",
    "linalg_vector_norm": "norm",
    "to_copy": "to",
    "rrelu_with_noise": "rrelu",
    "prelu_kernel": "prelu",
    "constant_pad_nd": "pad",
    "reflection_pad2d": "pad",
    "replication_pad2d": "pad",
    "upsample_nearest2d": "interpolate",
    "upsample_bilinear2d": "interpolate",
    "upsample_bicubic2d": "interpolate",
}

OPERATORS: Mapping[str, Operator] = {
    **{name: Operator(name, kind) for kind, names in _NAMES.items() for name in names.split()},
    **{name: Operator(name, "pointwise", form) for form, names in _RECTIFIERS.items() for name in names.split()},
}


def plain_name(name: str) -> str:
    """A function's name without the underscores of in-place and private forms; `__getitem__` and its like stay."""
    bare = name if name.startswith("__") else name.strip("_")
    return _KERNELS.get(bare, bare)


def operator(name: str) -> Operator | None:
    """What the function of that name does; None where it is not known."""
    return OPERATORS.get(plain_name(name))


def rectifies(name: str, args: tuple, kwargs: Mapping[str, Any]) -> bool:
    """Whether a call is zero below zero: what guided backprop has a rule for."""
    known = operator(name)
    if known is None or known.rectifier not in ("always", "bounded"):
        return False
    if known.name in ("relu", "relu6"):
        return True
    if known.name == "clamp_max":
        return False
    lowest = args[1] if len(args) > 1 else next((kwargs[key] for key in ("min_val", "min", "threshold") if key in kwargs), -1)
    return not isinstance(lowest, Tensor) and lowest == 0


# The middle of the range of functions with flat ends (inf: one end only); of the bounded ones it is among their arguments.
_MIDDLES = {"relu": math.inf, "relu6": 3.0, "hardswish": math.inf, "hardsigmoid": 0.0, "threshold": math.inf}


def middle_of_range(name: str, args: tuple, kwargs: Mapping[str, Any]) -> float | None:
    """Of a call of a function that is flat at one end (inf: below, -inf: above) or at both; None of any other, or where its
    bounds are not numbers."""
    known = operator(name)
    if known is None or known.name in _MIDDLES:
        return None if known is None else _MIDDLES[known.name]
    if known.rectifier != "bounded" and known.name != "clamp_min":
        return None
    default = {"hardtanh": (-1.0, 1.0)}.get(known.name, (None, None))
    low, high = (
        args[place] if len(args) > place else kwargs.get(f"{end}_val", kwargs.get(end, default[place - 1]))
        for place, end in ((1, "min"), (2, "max"))
    )
    if known.name == "clamp_max":
        low, high = None, low if low is not None else high
    if isinstance(low, Tensor) or isinstance(high, Tensor) or (low is None and high is None):
        return None
    return math.inf if high is None else -math.inf if low is None else (float(low) + float(high)) / 2
