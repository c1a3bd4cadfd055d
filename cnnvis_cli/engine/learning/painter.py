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

from cnnvis_cli.engine.generators.critic import Critic
from cnnvis_cli.engine.generators.stylizer import Stylizer

_COPY = 30.0  # weight of the pixels, so that losses are of one size before and after
_POOL = 10  # pixels of a mean that the transformed image keeps
_KEPT = 0.95  # of what is known of the critic's success from step to step
# The critic's success from which it learns slowly, and below which the painter listens little to it: neither runs away.
_STRONG, _WEAK, _SLOW = 0.85, 0.6, 0.1


@dataclass(frozen=True)
class PainterLoss:
    """Weights of the terms. `content`: of the own code (`style-aware`), or of `kept`, another distance of pictures
    (made, photographs) to a scalar. `memory` keeps how often the critic is right, and comes back when a run goes on."""

    painter: Stylizer
    critic: Critic
    memory: MutableMapping[str, Any]
    adversarial: float
    content: float
    transformed: float
    kept: Callable[[Tensor, Tensor], Tensor] | None = None

    def warm(self, photographs: Tensor) -> dict[str, Tensor]:
        """As an autoencoder, before there is a critic: the mean squared error of pictures (B, 3, H, W)."""
        return {"pixels": _COPY * F.mse_loss(self._paint(photographs)[0], photographs)}

    def terms(self, photographs: Tensor, paintings: Tensor) -> dict[str, Tensor]:
        """Weighted scalars for photographs (B, 3, H, W) and patches of paintings (N, 3, H, W)."""
        made, code, shares = self._paint(photographs)
        right = float(self.memory.get("right", 0.5))
        judged, drop = critic_loss(self.critic, paintings, made.detach(), photographs)
        self.memory["right"] = _KEPT * right + (1 - _KEPT) * judged
        frozen = {name: value.detach() for name, value in self.critic.named_parameters()}
        # With the hinge here too: scores beyond the margin are no reward, or the painter climbs them without end.
        scores = functional_call(self.critic, frozen, (made,))
        displeased = torch.stack([F.relu(1 - score).mean() for score in scores]).mean()
        terms = {
            "critic": (_SLOW if right > _STRONG else 1.0) * drop,
            "adversarial": self.adversarial * (_SLOW if right < _WEAK else 1.0) * displeased,
        }
        if self.content:
            distance = self.kept(made, photographs) if self.kept else self._own_distance(made, code, shares)
            terms["content"] = self.content * distance
        if self.transformed:
            seen, goal = (F.avg_pool2d(one, _POOL, stride=_POOL // 2) for one in (made, photographs))
            terms["transformed"] = self.transformed * F.mse_loss(seen, goal)
        return terms

    def _paint(self, photographs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shares = self.painter.mixed(torch.zeros(len(photographs), dtype=torch.long, device=photographs.device))
        code = self.painter.encode(photographs, shares)
        return self.painter.decode(code, shares), code, shares

    def _own_distance(self, made: Tensor, code: Tensor, shares: Tensor) -> Tensor:
        """Style-aware: of the code of what was made from the code of the photograph, by the mean size of that."""
        again = self.painter.encode(made, shares)
        return (again - code).abs().mean() / code.detach().abs().mean().clamp_min(1e-6)


def critic_loss(critic: nn.Module, paintings: Tensor, made: Tensor, photographs: Tensor) -> tuple[float, Tensor]:
    """How often the critic is right (half of it of paintings), and its hinge loss: paintings above 1, all others below -1."""
    right, losses = [], []
    for real, fake, plain in zip(*(critic(one) for one in (paintings, made, photographs)), strict=True):
        losses.append(F.relu(1 - real).mean() + 0.5 * F.relu(1 + fake).mean() + 0.5 * F.relu(1 + plain).mean())
        right.append(0.5 * (real > 0).float().mean() + 0.5 * (fake < 0).float().mean())
    return torch.stack(right).mean().item(), torch.stack(losses).mean()
