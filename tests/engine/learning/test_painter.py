"""The painter's losses: who learns from which, and that neither side runs away."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cnnvis_cli.engine.generators.critic import FeatureCritic, PixelCritic
from cnnvis_cli.engine.generators.stylizer import Stylizer, StylizerShape
from cnnvis_cli.engine.learning.loop import Learning, learn
from cnnvis_cli.engine.learning.painter import PainterLoss, critic_loss


def both(seed: int = 0) -> nn.ModuleDict:
    torch.manual_seed(seed)
    return nn.ModuleDict({"painter": Stylizer(StylizerShape(1, 4, 1)), "critic": PixelCritic(8, 3)})


def loss_of(module: nn.ModuleDict, memory: dict[str, float], **weights: float) -> PainterLoss:
    painter, critic = module["painter"], module["critic"]
    assert isinstance(painter, Stylizer)
    given = {"adversarial": 1.0, "content": 2.0, "transformed": 30.0, "even": 2.0} | weights
    return PainterLoss(painter, critic, lambda pictures: [pictures], memory, **given)


def terms_of(module: nn.ModuleDict, right: float, **weights: float) -> dict[str, Tensor]:
    loss = loss_of(module, {"right": right}, **weights)
    return loss.terms(pictures(0), pictures(1), torch.Generator().manual_seed(0))


def pictures(seed: int, count: int = 3) -> Tensor:
    small = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(small, (40, 40), mode="bilinear")


def test_each_term_teaches_one_side_alone() -> None:
    module = both()
    terms = terms_of(module, 0.7)
    assert set(terms) == {"critic", "adversarial", "lattice", "content", "transformed"}
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
        def forward(self, looks: list[Tensor]) -> list[Tensor]:
            return [(looks[0].mean((1, 2, 3), keepdim=True) - 0.5) * 20]

    white, black = [torch.ones(2, 3, 32, 32)], [torch.zeros(2, 3, 32, 32)]
    right, loss = critic_loss(Sure(), white, black, black)
    assert (right, loss.item()) == (1.0, 0.0)
    right, loss = critic_loss(Sure(), black, white, white)
    assert right == 0
    assert loss.item() == pytest.approx(22)


def test_a_strong_critic_waits_and_a_weak_one_is_not_listened_to() -> None:
    module = both()
    strong, even, weak = (terms_of(module, right) for right in (0.95, 0.75, 0.4))
    assert even.keys() - strong.keys() == {"critic"}
    assert even.keys() - weak.keys() == {"adversarial"}
    assert strong["content"] == even["content"] == weak["content"]


def test_what_is_kept_in_the_own_code_does_not_shrink_when_the_code_becomes_a_constant() -> None:
    module = both()
    before = terms_of(module, 0.7)["content"].item()
    last = module["painter"].trunk[-1].norm2  # type: ignore[index, union-attr]
    with torch.no_grad():
        last.shift += 1000
    assert terms_of(module, 0.7)["content"].item() == pytest.approx(before, rel=0.02)


def test_sides_need_be_no_multiple_of_four_and_only_the_style_asked_for_learns() -> None:
    torch.manual_seed(0)
    module = nn.ModuleDict({"painter": Stylizer(StylizerShape(3, 4, 1)), "critic": PixelCritic(8, 3)})
    loss = PainterLoss(module["painter"], module["critic"], lambda one: [one], {"right": 0.7}, 1.0, 2.0, 30.0, 2.0, style=1)  # type: ignore[arg-type]
    odd = pictures(0)[..., :37, :39]
    assert loss.warm(odd)["pixels"] > 0
    torch.stack(list(loss.terms(odd, pictures(1), torch.Generator().manual_seed(0)).values())).sum().backward()
    taught = module["painter"].norm1.scale.grad.abs().sum(1) > 0  # type: ignore[union-attr]
    assert taught.tolist() == [False, True, False]


def test_what_is_drawn_follows_from_the_generator() -> None:
    module = both()
    first, again = terms_of(module, 0.7), terms_of(module, 0.7)
    assert first == again
    loss = loss_of(module, {"right": 0.7})
    assert loss.terms(pictures(0), pictures(1), torch.Generator().manual_seed(1))["critic"] != first["critic"]


def test_a_critic_of_features_learns_what_stands_in_one_layer_alone() -> None:
    """Paintings differ from all else in the second layer's maps: the first's head stays unsure, the second's becomes right."""
    torch.manual_seed(0)
    critic = FeatureCritic([2, 3], width=8)

    def looks(painted: bool) -> list[Tensor]:
        return [torch.randn(4, 2, 16, 16), torch.randn(4, 3, 8, 8) + (1.5 if painted else 0)]

    def losses(step: int, progress: float) -> dict[str, Tensor]:
        return {"critic": critic_loss(critic, looks(True), looks(False), looks(False))[1]}

    learned = learn(Learning(critic, losses, 150, rate=3e-3, average=0.9, momentum=0.5)).module
    with torch.no_grad():
        real, fake = learned(looks(True)), learned(looks(False))
    shares = [0.5 * ((r > 0).float().mean() + (f < 0).float().mean()).item() for r, f in zip(real, fake, strict=True)]
    assert shares[1] > 0.9
    assert abs(shares[0] - 0.5) < 0.15


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_seed_collapses(seed: int) -> None:
    """Photographs are grey steps, paintings are red and blue: what is painted takes these colours and stays a picture."""
    module, memory = both(seed), dict[str, float]()
    grey = pictures(5, 4).mean(1, keepdim=True).expand(-1, 3, -1, -1)
    painted = pictures(6, 4) * torch.tensor([1.0, 0.0, 1.0]).view(1, 3, 1, 1)
    loss = loss_of(module, memory, transformed=1.0)

    def losses(step: int, progress: float) -> dict[str, Tensor]:
        return loss.warm(grey) if progress < 0.25 else loss.terms(grey, painted, torch.Generator().manual_seed(step))

    result = learn(Learning(module, losses, 60, rate=3e-3, average=0.9, clip=1.0, momentum=0.5, memory=memory))
    assert result.stopped == "steps"
    stylizer = result.module["painter"]  # type: ignore[index]
    with torch.no_grad():
        made = stylizer(grey, torch.ones(4, 1))
    assert made.mean(1).std((1, 2)).min() > 0.02, "not one colour all over"
    assert (made[:, 1] < made[:, 0]).float().mean() > 0.6, "less green, as in the paintings"
    assert 0.2 < memory["right"] <= 1
