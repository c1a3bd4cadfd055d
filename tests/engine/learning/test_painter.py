"""The painter's losses: who learns from which, and that neither side runs away."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cnnvis_cli.engine.generators.critic import Critic
from cnnvis_cli.engine.generators.stylizer import Stylizer, StylizerShape
from cnnvis_cli.engine.learning.loop import Learning, learn
from cnnvis_cli.engine.learning.painter import PainterLoss, critic_loss


def both(seed: int = 0) -> nn.ModuleDict:
    torch.manual_seed(seed)
    return nn.ModuleDict({"painter": Stylizer(StylizerShape(1, 4, 1)), "critic": Critic(8, 3)})


def loss_of(module: nn.ModuleDict, memory: dict[str, float], **weights: float) -> PainterLoss:
    painter, critic = module["painter"], module["critic"]
    assert isinstance(painter, Stylizer)
    assert isinstance(critic, Critic)
    given = {"adversarial": 1.0, "content": 2.0, "transformed": 30.0} | weights
    return PainterLoss(painter, critic, memory, **given)


def pictures(seed: int, count: int = 3) -> Tensor:
    small = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(small, (32, 32), mode="bilinear")


def test_each_term_teaches_one_side_alone() -> None:
    module = both()
    terms = loss_of(module, {}).terms(pictures(0), pictures(1))
    assert set(terms) == {"critic", "adversarial", "content", "transformed"}
    for name, term in terms.items():
        module.zero_grad()
        term.backward(retain_graph=True)
        taught = {
            side: any(p.grad is not None and bool(p.grad.any()) for p in module[side].parameters())
            for side in ("painter", "critic")
        }
        assert taught == {"painter": name != "critic", "critic": name == "critic"}, name


def test_a_critic_that_is_sure_and_right_has_nothing_to_learn() -> None:
    class Sure(nn.Module):
        def forward(self, seen: Tensor) -> list[Tensor]:
            return [(seen.mean((1, 2, 3), keepdim=True) - 0.5) * 20]

    right, loss = critic_loss(Sure(), torch.ones(2, 3, 32, 32), torch.zeros(2, 3, 32, 32), torch.zeros(2, 3, 32, 32))
    assert (right, loss.item()) == (1.0, 0.0)
    right, loss = critic_loss(Sure(), torch.zeros(2, 3, 32, 32), torch.ones(2, 3, 32, 32), torch.ones(2, 3, 32, 32))
    assert right == 0
    assert loss.item() == pytest.approx(22)


def test_a_strong_critic_learns_slowly_and_a_weak_one_is_hardly_listened_to() -> None:
    module = both()

    def terms(right: float) -> dict[str, float]:
        found = loss_of(module, {"right": right}).terms(pictures(0), pictures(1))
        return {name: term.item() for name, term in found.items()}

    strong, even, weak = terms(0.95), terms(0.75), terms(0.4)
    assert strong["critic"] == pytest.approx(0.1 * even["critic"])
    assert weak["adversarial"] == pytest.approx(0.1 * even["adversarial"])
    assert weak["critic"] == even["critic"]
    assert strong["content"] == even["content"] == weak["content"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_seed_collapses(seed: int) -> None:
    """Photographs are grey steps, paintings are red and blue: what is painted takes these colours and stays a picture."""
    module, memory = both(seed), dict[str, float]()
    grey = pictures(5, 4).mean(1, keepdim=True).expand(-1, 3, -1, -1)
    painted = pictures(6, 4) * torch.tensor([1.0, 0.0, 1.0]).view(1, 3, 1, 1)
    loss = loss_of(module, memory, transformed=1.0)

    def losses(step: int, progress: float) -> dict[str, Tensor]:
        return loss.warm(grey) if progress < 0.25 else loss.terms(grey, painted)

    result = learn(Learning(module, losses, 60, rate=3e-3, average=0.9, clip=1.0, memory=memory))
    assert result.stopped == "steps"
    stylizer = result.module["painter"]  # type: ignore[index]
    with torch.no_grad():
        made = stylizer(grey, torch.ones(4, 1))
    assert made.mean(1).std((1, 2)).min() > 0.02, "not one colour all over"
    assert (made[:, 1] < made[:, 0]).float().mean() > 0.6, "less green, as in the paintings"
    assert 0.2 < memory["right"] <= 1
