"""What an attack is given: pictures, what they shall be taken for, and how far they may be changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cnnvis_cli.engine.attacks.bound import Bound, rounded
from cnnvis_cli.engine.errors import UserError
from cnnvis_cli.engine.optim.evaluate import ValueGradient
from cnnvis_cli.engine.optim.loop import Watch

Model = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Goal:
    """When pictures count as fooling the network.

    `labels` (B,): the classes they belong to. `targets` (B,): the classes they shall be taken for; None: any other class.
    `aims` (B,): the wrong classes that a loss goes for where any would do.
    Raises UserError where a target is the picture's own class.
    """

    labels: Tensor
    targets: Tensor | None = None
    aims: Tensor | None = None

    def __post_init__(self) -> None:
        if self.targets is not None and bool((self.targets == self.labels).any()):
            raise UserError("the target is the class that the picture already has. Choose another target.")

    def at(self, index: Tensor) -> Goal:
        """The goal for some of the pictures."""
        index = index.to(self.labels.device)
        others = (None if classes is None else classes[index] for classes in (self.targets, self.aims))
        return Goal(self.labels[index], *others)

    def cross_entropy(self, logits: Tensor) -> Tensor:
        """(B,) to be raised: log-probability of the target, or minus that of the label (Goodfellow et al. 2015)."""
        if self.targets is not None:
            return _pick(logits.log_softmax(1), self.targets)
        return -_pick(logits.log_softmax(1), self.labels)

    def score(self, logits: Tensor) -> Tensor:
        """(B,) to be raised: the class score of the target, or minus that of the label (plain gradient ascent)."""
        return _pick(logits, self.targets) if self.targets is not None else -_pick(logits, self.labels)

    def log_probability(self, logits: Tensor) -> Tensor:
        """(B,) to be raised: log-probability that the goal is met, of the target or of anything but the label."""
        if self.targets is not None:
            return _pick(logits.log_softmax(1), self.targets)
        return _without(logits, self.labels).logsumexp(1) - logits.logsumexp(1)

    def margin(self, logits: Tensor) -> Tensor:
        """(B,) in units of logits: above 0 where the goal is met, and by how much; below 0 what is missing."""
        if self.targets is not None:
            return _pick(logits, self.targets) - _without(logits, self.targets).amax(1)
        return _without(logits, self.labels).amax(1) - _pick(logits, self.labels)

    def boundary(self, logits: Tensor) -> Tensor:
        """(B,) to be raised: the score of the class aimed at over that of the label; 0 on the boundary of the two."""
        assert self.aims is not None
        return _pick(logits, self.aims) - _pick(logits, self.labels)

    def ratio(self, logits: Tensor) -> Tensor:
        """(B,) to be raised: the targeted difference of logits ratio (Croce and Hein 2020, eq. 6), which does not change when
        all logits are scaled. Of fewer than four classes the plain difference."""
        if logits.shape[1] < 4:
            return self.boundary(logits)
        first, _, third, fourth = logits.topk(4, dim=1).values.unbind(1)
        return self.boundary(logits) / (first - (third + fourth) / 2 + 1e-12)

    def met(self, logits: Tensor, confidence: float = 0.0) -> Tensor:
        """(B,) bool: the goal is met, and the network gives the wrong class at least that probability."""
        return (self.margin(logits) > 0) & (logits.softmax(1).amax(1) >= confidence)


def _pick(values: Tensor, index: Tensor) -> Tensor:
    return values.gather(1, index[:, None])[:, 0]


def _without(logits: Tensor, index: Tensor) -> Tensor:
    return logits.scatter(1, index[:, None], -torch.inf)


class Problem:
    """Pictures (B, 3, H, W) in [0, 1] on which `model`, from pictures to logits (B, classes), is to be fooled.

    `queries` and `gradients` (B,) count the forward and the backward passes each picture has cost. With `eightbit`, an
    attack that stops early goes on until the picture fools the network when rounded to 8 bits as well. `watch` follows the
    attack step by step, and can stop it.
    """

    def __init__(
        self,
        model: Model,
        pictures: Tensor,
        goal: Goal,
        budget: Bound,
        *,
        eightbit: bool = True,
        watch: Watch | None = None,
    ) -> None:
        self.model = model
        self.base = pictures.detach()
        self.goal = goal
        self.budget = budget
        self.eightbit = eightbit
        self.watch = watch or Watch()
        self.queries = torch.zeros(len(pictures), dtype=torch.long)
        self.gradients = torch.zeros(len(pictures), dtype=torch.long)
        self._last = torch.empty(0)

    def __len__(self) -> int:
        return len(self.base)

    @property
    def everything(self) -> Tensor:
        """The places of all pictures (B,)."""
        return torch.arange(len(self))

    def base_at(self, places: Tensor) -> Tensor:
        return self.base[places.to(self.base.device)]

    @torch.no_grad()
    def ask(self, pictures: Tensor, places: Tensor) -> Tensor:
        """Logits for pictures that stand at these places."""
        self.queries[places] += 1
        return self.model(pictures)

    def margin(self, pictures: Tensor, places: Tensor) -> Tensor:
        """(B,) on the CPU: above 0 where the picture fools the network."""
        return self.goal.at(places).margin(self.ask(pictures, places)).cpu()

    def value_gradient(
        self, value: Callable[[Goal, Tensor], Tensor], places: Tensor | None = None, batch: int = 32
    ) -> ValueGradient:
        """For the loop: `value(goal, logits)` and its gradient, `batch` pictures at a time. The loop's i-th picture is the
        one at places[i]. Only gradients with respect to the pictures are computed."""
        places = self.everything if places is None else places

        def one(pictures: Tensor, where: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            self.queries[where] += 1
            self.gradients[where] += 1
            with torch.enable_grad():
                leaf = pictures.detach().requires_grad_()
                logits = self.model(leaf)
                values = value(self.goal.at(where), logits)
                (gradient,) = torch.autograd.grad(values.sum(), leaf)
            return values.detach(), gradient, logits.detach()

        def evaluate(pictures: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
            parts = [one(*pair) for pair in zip(pictures.split(batch), places[index].split(batch), strict=True)]
            values, gradient, self._last = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
            return values, gradient

        return evaluate

    def last_margin(self, places: Tensor) -> Tensor:
        """(B,) margin of the answers to the last evaluation, of the pictures at these places."""
        return self.goal.at(places).margin(self._last)

    def stop(self, places: Tensor | None = None, confidence: float = 0.0) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """For the loop's `done`: which of the pictures just evaluated fool the network, rounded to 8 bits if so wished, with
        at least that probability of the wrong class."""
        places = self.everything if places is None else places

        def done(pictures: Tensor, values: Tensor, index: Tensor) -> Tensor:
            where = places[index]
            hit = self.goal.at(where).met(self._last, confidence).cpu()
            if self.eightbit and bool(hit.any()):
                again = where[hit]
                saved = rounded(self.base_at(again), pictures[hit.to(pictures.device)], self.budget)
                hit[hit.clone()] = self.goal.at(again).met(self.ask(saved, again), confidence).cpu()
            return hit

        return done
