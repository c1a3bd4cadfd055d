"""Style from any picture in one pass: codes get its statistics between the stages of a decoder.

Of Li et al. 2017 ("universal style transfer"), from coarse to fine, but with one encoder's pass and one decoder's. A transport
of Gaussians is affine: what it needs of a level adds up over strips of rows, and applied it is a convolution of 1 x 1. So
pictures of any size are made in strips, and come out as the whole would.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.engine.generators.decoder import Decoder
from cnnvis_cli.engine.locality.tiling import Tiled
from cnnvis_cli.engine.network.activations import activations
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.statistics import Summary, add
from cnnvis_cli.engine.statistics.transports import Map, Transport, blended
from cnnvis_cli.engine.synthesis.style import Region

# Rows of the deepest code beside a strip that a stage without blocks sees; each block sees three more. All stages together see
# less than twice that, as their rows are halved.
_HALO = 2
_BLOCK = 3
WHOLE_AT_MOST = 1500 * 1500
_STRIP = 256  # pixels
_TILE = 512


@dataclass
class Exchange:
    """What codes are given, and where. `levels`: the decoder's layers, shallow to deep; `at`: numbers of those where statistics
    are exchanged; `regions`: targets of the transport by layer, each with its mask at the picture's size. `maps`: those that
    are known already, by level and region."""

    transport: Transport
    levels: Sequence[str]
    at: frozenset[int]
    regions: Sequence[Region]
    strength: float = 1.0
    maps: dict[int, list[Map]] = field(default_factory=dict)

    def masks(self, size: tuple[int, int]) -> list[Tensor | None]:
        """Each region's mask (h, w) at the size of a code."""
        return [None if r.mask is None else F.adaptive_avg_pool2d(r.mask[None, None], size)[0, 0] for r in self.regions]

    def learn(self, level: int, code: Tensor) -> None:
        """Find the maps of a level from its whole code."""
        masks = self.masks((code.shape[2], code.shape[3]))
        targets = [region.targets[self.levels[level]] for region in self.regions]
        self.maps[level] = [self.transport.map(code, *pair) for pair in zip(targets, masks, strict=True)]

    def apply(self, level: int, code: Tensor, masks: Sequence[Tensor | None]) -> Tensor:
        """The code, or rows of it with these rows of the masks, with the statistics of the regions."""
        made: Tensor | float = 0.0
        total: Tensor | float = 0.0
        for moved, mask in zip((one(code) for one in self.maps[level]), masks, strict=True):
            if mask is None:
                return blended(code, moved, self.strength)
            made, total = made + moved * mask, total + mask
        # Where masks overlap the mean counts; where all are dark the code stays its own.
        covered = torch.as_tensor(total).clamp_min(1.0)
        return blended(code, (made + code * (covered - torch.as_tensor(total))) / covered, self.strength)


@torch.no_grad()
def level_targets(network: Network, picture: Tensor, levels: Sequence[str]) -> dict[str, Tensor]:
    """The codes of a style picture (1, 3, H, W) by layer."""
    found = activations(network, picture, levels)
    return {level: found[level] for level in levels}


def targets(transport: Transport, codes: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> dict[str, Summary]:
    """Targets by layer from the codes of several pictures, with shares that sum to 1."""
    return {layer: transport.target([one[layer] for one in codes], shares) for layer in codes[0]}


@torch.no_grad()
def transferred(network: Network, decoder: Decoder, picture: Tensor, exchange: Exchange, *, strip: int | None = None) -> Tensor:
    """(1, 3, H, W) in [0, 1]: the picture with its codes' statistics exchanged. `strip`: rows of pixels at once; 0: whole;
    None: whole where it fits, and where the transport is not one of sums."""
    height, width = picture.shape[-2:]
    pitch = 2 ** sum(decoder.shape.doublings)
    below, right = -height % pitch, -width % pitch
    if below or right:
        picture = F.pad(picture, (0, right, 0, below), mode="reflect")
        exchange = replace(exchange, regions=[_padded(region, right, below) for region in exchange.regions], maps={})
    large = picture.shape[2] * picture.shape[3] > WHOLE_AT_MOST
    strip = (_STRIP if large and exchange.transport.additive else 0) if strip is None else strip
    top = max(exchange.at)
    layer = exchange.levels[top]
    code = Tiled(network, [layer], _TILE).maps(picture, layer) if large else activations(network, picture, [layer])[layer]
    exchange.learn(top, code)
    code = exchange.apply(top, code, exchange.masks((code.shape[2], code.shape[3])))
    if not strip:
        for number in range(top, -1, -1):
            code = decoder.stage(number, code)
            if number - 1 in exchange.at:
                exchange.learn(number - 1, code)
                code = exchange.apply(number - 1, code, exchange.masks((code.shape[2], code.shape[3])))
        return code.clamp(0, 1)[..., :height, :width].contiguous()
    return _Strips(decoder, exchange, code, top, strip).picture()[..., :height, :width].contiguous()


def _padded(region: Region, right: int, below: int) -> Region:
    if region.mask is None:
        return region
    return replace(region, mask=F.pad(region.mask[None, None], (0, right, 0, below), mode="reflect")[0, 0])


class _Strips:
    """The stages below a code of the deepest level, a strip of rows at a time; what is exchanged on the way is found first."""

    def __init__(self, decoder: Decoder, exchange: Exchange, code: Tensor, top: int, strip: int) -> None:
        self.decoder, self.exchange, self.code, self.top = decoder, exchange, code, top
        self.halo = 2 * (_HALO + _BLOCK * decoder.shape.blocks)
        factors = [2**doubling for doubling in decoder.shape.doublings]
        # How many rows of each level (of the picture, for -1) lie in one of the deepest code.
        self.scale = {top: 1}
        for level in range(top, -1, -1):
            self.scale[level - 1] = self.scale[level] * factors[level]
        self.rows = max(2 * self.halo, strip // self.scale[-1])

    def picture(self) -> Tensor:
        for level in range(self.top - 1, -1, -1):
            if level in self.exchange.at:
                self._learn(level)
        return torch.cat([made for made, _ in self._walk(-1)], 2).clamp(0, 1)

    def _learn(self, level: int) -> None:
        exchange, layer = self.exchange, self.exchange.levels[level]
        size = self.code.shape[2] * self.scale[level], self.code.shape[3] * self.scale[level]
        sums: list[Summary] = []
        for made, rows in self._walk(level):
            masks = [None if mask is None else mask[rows] for mask in exchange.masks(size)]
            parts = [exchange.transport.moments(made, mask) for mask in masks]  # type: ignore[attr-defined]
            sums = [add(old, new) for old, new in zip(sums, parts, strict=True)] if sums else parts
        affine = exchange.transport.affine  # type: ignore[attr-defined]
        found = zip(sums, exchange.regions, strict=True)
        exchange.maps[level] = [affine(one, region.targets[layer]) for one, region in found]

    def _walk(self, level: int) -> Iterator[tuple[Tensor, slice]]:
        """Strips of the code of a level before its own exchange, and which of its rows they are."""
        height = self.code.shape[2]
        starts = list(range(0, height, self.rows))
        if len(starts) > 1 and height - starts[-1] <= self.halo:  # too thin to be mirrored
            starts.pop()
        for first, last in zip(starts, [*starts[1:], height], strict=True):
            top, bottom = max(0, first - self.halo), min(height, last + self.halo)
            made = self._stages(self.code[:, :, top:bottom], top, level)
            scale = self.scale[level]
            yield made[:, :, (first - top) * scale : (last - top) * scale], slice(first * scale, last * scale)

    def _stages(self, code: Tensor, top: int, level: int) -> Tensor:
        for number in range(self.top, level, -1):
            code = self.decoder.stage(number, code)
            if number - 1 in self.exchange.at and number - 1 > level:
                size = self.code.shape[2] * self.scale[number - 1], self.code.shape[3] * self.scale[number - 1]
                start = top * self.scale[number - 1]
                rows = slice(start, start + code.shape[2])
                masks = [None if mask is None else mask[rows] for mask in self.exchange.masks(size)]
                code = self.exchange.apply(number - 1, code, masks)
        return code
