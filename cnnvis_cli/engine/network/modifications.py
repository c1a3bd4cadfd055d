"""The same network with other borders or pools, for the length of a block. Names of layers, weights and hooks stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from cnnvis_cli.engine.network.network import Network

Padding = Literal["zeros", "replicate", "reflect", "circular"]
Pooling = Literal["auto", "max", "average"]
# An average is smaller than a maximum; without a factor the deep layers starve. 2 holds for 2x2 pools of VGGs, as in Crowson's
# style-transfer-pytorch.
AVERAGE_GAIN = 2.0


@contextmanager
def padded(network: Network, mode: Padding) -> Iterator[None]:
    """Convolutions see beyond the border what `mode` says, as in torch, instead of zeros.

    Zeros are a black frame to the network, and what is optimized answers with a frame of its own. `circular` lets a picture
    go on at the opposite side: what is tileable to the network.
    """
    with ExitStack() as stack:
        for child in network.module.modules():
            if isinstance(child, nn.Conv2d) and _pads(child):
                stack.callback(setattr, child, "padding_mode", child.padding_mode)
                child.padding_mode = mode
        yield


def _pads(convolution: nn.Conv2d) -> bool:
    if isinstance(convolution.padding, str):
        return convolution.padding == "same" and any(side > 1 for side in convolution.kernel_size)
    return any(side > 0 for side in convolution.padding)


@contextmanager
def pooled(network: Network, kind: Pooling) -> Iterator[None]:
    """MaxPool2d modules average instead (Gatys et al. 2015: smoother gradients), times AVERAGE_GAIN. Functional pools stay.

    `auto`: those whose windows overlap (SqueezeNet's, ResNets'). The gradient of their maxima falls on some pixels several
    times and on others never, which leaves grain; of windows side by side (VGG's) it does not.
    """
    with ExitStack() as stack:
        for child in network.module.modules():
            if isinstance(child, nn.MaxPool2d) and (kind == "average" or (kind == "auto" and _overlap(child))):
                before = child.__dict__.get("forward")  # of an outer block
                stack.callback(_restore, child, before)
                child.forward = _average(child)  # type: ignore[assignment]
        yield


def _overlap(pool: nn.MaxPool2d) -> bool:
    sides, strides = ((one, one) if isinstance(one, int) else tuple(one) for one in (pool.kernel_size, pool.stride))
    return any(side > stride for side, stride in zip(sides, strides, strict=True))


def _restore(pool: nn.MaxPool2d, before: Any) -> None:
    if before is None:
        del pool.forward
    else:
        pool.forward = before  # type: ignore[method-assign]


def _average(pool: nn.MaxPool2d) -> Callable[[Tensor], Tensor]:
    def forward(maps: Tensor) -> Tensor:
        mean = F.avg_pool2d(maps, pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode, count_include_pad=False)
        return mean * AVERAGE_GAIN

    return forward
