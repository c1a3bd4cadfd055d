"""What a painter is asked for: to please a critic that knows the artist, and to keep what its own encoder says of a picture.

Sanakoyeu et al. 2018, "A style-aware content loss for real-time HD style transfer": adversarial (here with the hinge), the
content in the code of the painter's own encoder, and the transformed image (mean pools of both). Written from the paper.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from cnnvis_cli.engine.generators.normalization import normalized
from cnnvis_cli.engine.generators.stylizer import Stylizer
from cnnvis_cli.engine.learning.painting import cut, lattice

_COPY = 30.0  # weight of the pixels, so that losses are of one size before and after
_POOL = 10  # pixels of a mean that the transformed image keeps
_KEPT = 0.95  # of what is known of the critic's success from step to step
# The critic's success from which it waits for the painter, and below which the painter does not listen to it: neither runs
# away. A term is left out, not made small: Adam would take the rate back up.
_STRONG, _WEAK = 0.85, 0.6
# Of what is painted, before it is encoded again: a content hidden in what nobody sees is lost.
_NOISE = 0.02


@dataclass(frozen=True)
class PainterLoss:
    """Weights of the terms. `look`: pictures to what the critic is shown of them. `content`: of the own code (`style-aware`),
    or of `kept`, another distance of pictures (made, photographs) to a scalar. `even`: of `lattice`. `style`: the number of the
    one that is learned. `memory` keeps how often the critic is right, and comes back when a run goes on."""

    painter: Stylizer
    critic: nn.Module
    look: Callable[[Tensor], list[Tensor]]
    memory: MutableMapping[str, Any]
    adversarial: float
    content: float
    transformed: float
    even: float = 0.0
    style: int = 0
    kept: Callable[[Tensor, Tensor], Tensor] | None = None

    def warm(self, photographs: Tensor) -> dict[str, Tensor]:
        """As an autoencoder, before there is a critic: the mean squared error of pictures (B, 3, H, W)."""
        return {"pixels": _COPY * F.mse_loss(self._paint(photographs)[0], photographs)}

    def terms(self, photographs: Tensor, paintings: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Weighted scalars for photographs (B, 3, H, W) and patches of paintings (N, 3, H, W). `generator` (CPU) draws what is
        cut and the noise."""
        made, code, shares = self._paint(photographs)
        terms = self._opinions(*(cut(one, generator) for one in (made, paintings, photographs)))
        if self.even:
            terms["lattice"] = self.even * lattice(made).mean()
        if self.content:
            noise = _NOISE * torch.randn(made.shape, generator=generator).to(made)
            distance = self.kept(made, photographs) if self.kept else self._own_distance(made + noise, code, shares)
            terms["content"] = self.content * distance
        if self.transformed:
            seen, goal = (F.avg_pool2d(one, _POOL, stride=_POOL // 2) for one in (made, photographs))
            terms["transformed"] = self.transformed * F.mse_loss(seen, goal)
        return terms

    def _opinions(self, made: Tensor, paintings: Tensor, photographs: Tensor) -> dict[str, Tensor]:
        """What the critic learns from, and what the painter is told by it: each where it is its turn."""
        right = float(self.memory.get("right", 0.5))
        seen = self.look(made)
        with torch.no_grad():
            real, plain = self.look(paintings), self.look(photographs)
        judged, drop = critic_loss(self.critic, real, [one.detach() for one in seen], plain)
        self.memory["right"] = _KEPT * right + (1 - _KEPT) * judged
        terms = {"critic": drop} if right <= _STRONG else {}
        if self.adversarial and right >= _WEAK:
            frozen = {name: value.detach() for name, value in self.critic.named_parameters()}
            # With the hinge here too: scores beyond the margin are no reward, or the painter climbs them without end.
            scores = functional_call(self.critic, frozen, (seen,))
            terms["adversarial"] = self.adversarial * torch.stack([F.relu(1 - score).mean() for score in scores]).mean()
        return terms

    def _paint(self, photographs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        height, width = photographs.shape[-2:]
        shares = self.painter.mixed(torch.full((len(photographs),), self.style, device=photographs.device))
        code = self.painter.encode(photographs, shares)
        return self.painter.decode(code, shares)[..., :height, :width], code, shares

    def _own_distance(self, made: Tensor, code: Tensor, shares: Tensor) -> Tensor:
        """Style-aware: of the code of what was made from the code of the photograph, without means and contrasts of channels:
        otherwise the encoder makes the code a constant with a little content on it, and any two pictures are near."""
        return (normalized(self.painter.encode(made, shares)) - normalized(code)).abs().mean()


def critic_loss(
    critic: nn.Module, paintings: list[Tensor], made: list[Tensor], photographs: list[Tensor]
) -> tuple[float, Tensor]:
    """How often the critic is right (half of it of paintings), and its hinge loss: paintings above 1, all others below -1.
    Each of the three as the critic is shown it."""
    right, losses = [], []
    for real, fake, plain in zip(*(critic(one) for one in (paintings, made, photographs)), strict=True):
        losses.append(F.relu(1 - real).mean() + 0.5 * F.relu(1 + fake).mean() + 0.5 * F.relu(1 + plain).mean())
        right.append(0.5 * (real > 0).float().mean() + 0.5 * (fake < 0).float().mean())
    return torch.stack(right).mean().item(), torch.stack(losses).mean()
