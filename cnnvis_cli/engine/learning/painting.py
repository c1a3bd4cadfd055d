"""What a stylizer is asked for: perceptual losses (Johnson et al. 2016) with the statistics that `style` lowers.

The same StyleLoss as for the optimizer, relative to the targets' energies, so that `strength` and the numbers mean the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cnnvis_cli.engine.network.activations import IMAGES, activations
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.objectives import total_variation
from cnnvis_cli.engine.statistics import Statistic, Summary
from cnnvis_cli.engine.synthesis.style import Region, StyleLoss, codes


@dataclass(frozen=True)
class PaintingLoss:
    """`targets`: for each style its summaries by layer. `style`, `content`: weights by layer. `strength`: share of the style
    in the loss; `tv`: weight of the total variation."""

    network: Network
    statistic: Statistic
    targets: Sequence[Mapping[str, Summary]]
    style: Mapping[str, float]
    content: Mapping[str, float]
    strength: float
    tv: float = 0.0

    def at(self, content: Tensor, style: int) -> StyleLoss:
        """The optimizer's loss for pictures (B, 3, H, W) that are to be painted in one style."""
        code = codes(self.network, content, list(self.content))
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
                codes={layer: code[rows] for layer, code in loss.codes.items()},
            )
            style, kept = own.terms({layer: acts[layer][rows] for layer in [*loss.layers, IMAGES]})
            found |= {int(row): (style[i], kept[i]) for i, row in enumerate(rows)}
        order = range(len(styles))
        terms = {
            "style": self.strength * torch.stack([found[row][0] for row in order]),
            "content": (1 - self.strength) * torch.stack([found[row][1] for row in order]),
        }
        return terms | ({"tv": self.tv * total_variation().value({IMAGES: made})} if self.tv else {})

    def value(self, made: Tensor, content: Tensor, styles: Sequence[int]) -> Tensor:
        """(B,) the whole loss, without gradients."""
        with torch.no_grad():
            return torch.stack(list(self.terms(made, content, styles).values())).sum(0)
