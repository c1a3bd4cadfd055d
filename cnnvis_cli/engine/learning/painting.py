"""What a stylizer is asked for: perceptual losses (Johnson et al. 2016) with the statistics that `style` lowers.

The same StyleLoss as for the optimizer, relative to the targets' energies, so that `strength` and the numbers mean the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnvis_cli.engine.network.activations import IMAGES, activations
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.objectives import total_variation
from cnnvis_cli.engine.statistics import Statistic, Summary
from cnnvis_cli.engine.synthesis.style import Region, StyleLoss, content_features

# Pixels: who judges sees each picture at another place; at a fixed one it is painted for the lattice of the strides and pools.
OFFSETS = 8


def lattice(pictures: Tensor, window: int = 44) -> Tensor:
    """(B,) the share of the fine detail of pictures (B, C, H, W) that repeats every four pixels, as checkerboards do.

    A network with strides tells pixels apart by their place in its 4 x 4 grid, and where a picture is flat that is all it can
    make a texture of. Fine detail is what a mean over 4 x 4 pixels takes out; its mean at each of the 16 places, over windows
    of `window` pixels (a multiple of 4), is nearly zero for anything but a lattice.
    """
    taps = torch.tensor([0.125, 0.25, 0.25, 0.25, 0.125], device=pictures.device, dtype=pictures.dtype)
    channels = pictures.shape[1]
    across = taps.view(1, 1, 1, 5).expand(channels, -1, -1, -1)
    coarse = F.conv2d(F.conv2d(pictures, across, groups=channels), across.transpose(2, 3), groups=channels)
    fine = pictures[..., 2:-2, 2:-2] - coarse
    rows, columns = (side // window if side >= window else 1 for side in fine.shape[-2:])
    tall, wide = (min(side, window) // 4 * 4 for side in fine.shape[-2:])
    fine = fine[..., : rows * tall, : columns * wide]
    tiles = fine.reshape(len(fine), channels, rows, tall // 4, 4, columns, wide // 4, 4)
    return tiles.mean((3, 6)).square().mean((1, 2, 3, 4, 5)) / fine.square().mean((1, 2, 3)).clamp_min(1e-8)


def cut(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """All but `OFFSETS` rows and columns of pictures (B, C, H, W), those at the sides."""
    down, right = torch.randint(0, OFFSETS, (2,), generator=generator).tolist()
    height, width = pictures.shape[-2] - OFFSETS, pictures.shape[-1] - OFFSETS
    return pictures[..., down : down + height, right : right + width]


@dataclass(frozen=True)
class PaintingLoss:
    """`targets`: for each style its summaries by layer. `style`, `content`: weights by layer. `strength`: share of the style
    in the loss; `tv`: weight of the total variation; `even`: weight of `lattice`."""

    network: Network
    statistic: Statistic
    targets: Sequence[Mapping[str, Summary]]
    style: Mapping[str, float]
    content: Mapping[str, float]
    strength: float
    tv: float = 0.0
    even: float = 0.0

    def at(self, content: Tensor, style: int) -> StyleLoss:
        """The optimizer's loss for pictures (B, 3, H, W) that are to be painted in one style."""
        code = content_features(self.network, content, list(self.content))
        return StyleLoss(self.statistic, [Region(self.targets[style])], self.style, self.content, code, self.strength)

    def terms(self, made: Tensor, content: Tensor, styles: Sequence[int]) -> dict[str, Tensor]:
        """(B,) each, weighted: style, content and total variation of pictures made from `content` in the styles (B,)."""
        loss = self.at(content, styles[0])
        acts = activations(self.network, made, loss.layers)
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for number in sorted(set(styles)):
            rows = torch.tensor([place for place, style in enumerate(styles) if style == number], device=made.device)
            own = replace(
                loss,
                regions=[Region(self.targets[number])],
                features={layer: code[rows] for layer, code in loss.features.items()},
            )
            style, kept = own.terms({layer: acts[layer][rows] for layer in [*loss.layers, IMAGES]})
            found |= {int(row): (style[i], kept[i]) for i, row in enumerate(rows)}
        order = range(len(styles))
        terms = {
            "style": self.strength * torch.stack([found[row][0] for row in order]),
            "content": (1 - self.strength) * torch.stack([found[row][1] for row in order]),
        }
        if self.tv:
            terms["tv"] = self.tv * total_variation().value({IMAGES: made})
        return terms | ({"lattice": self.even * lattice(made)} if self.even else {})

    def value(self, made: Tensor, content: Tensor, styles: Sequence[int]) -> Tensor:
        """(B,) the whole loss, without gradients."""
        with torch.no_grad():
            return torch.stack(list(self.terms(made, content, styles).values())).sum(0)
