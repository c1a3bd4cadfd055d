"""AutoAttack: four attacks without a setting to choose, each on what the ones before left (Croce and Hein 2020)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from cnnvis_cli.engine.attacks.apgd import apgd
from cnnvis_cli.engine.attacks.fab import fab
from cnnvis_cli.engine.attacks.problem import Goal, Problem
from cnnvis_cli.engine.attacks.square import square
from cnnvis_cli.engine.errors import UserError

# In the order in which they are tried.
PARTS = ("apgd-ce", "apgd-t", "fab-t", "square")


def autoattack(
    problem: Problem, *, steps: int = 100, aims: int = 9, queries: int = 5000, seed: int = 0
) -> tuple[Tensor, list[str]]:
    """Pictures (B, 3, H, W) and for each the part that fooled the network ("" where none did): APGD on cross-entropy, APGD on
    the targeted ratio of logits and FAB towards each of the `aims` likeliest wrong classes, and Square with `queries`.

    The "standard" version, with `steps` of each gradient attack. Raises UserError where a target class is asked for.
    """
    if problem.goal.targets is not None:
        raise UserError("AutoAttack measures robustness: any wrong class counts, and it takes no target.")
    result, by = problem.base.clone(), [""] * len(problem)
    for name, aim in _turns(problem, aims):
        standing = torch.tensor([place for place, part in enumerate(by) if not part], dtype=torch.long)
        if not len(standing) or problem.watch.should_stop():
            break
        made, fooled = _attempt(problem, name, aim, standing, steps, queries, seed)
        hit = standing[fooled]
        result[hit.to(result.device)] = made[fooled.to(made.device)]
        for place in hit.tolist():
            by[place] = name
    return result, by


def _turns(problem: Problem, aims: int) -> Iterator[tuple[str, Tensor | None]]:
    """The attacks one after the other, with the classes (B,) they aim at: the likeliest wrong ones first."""
    logits = problem.ask(problem.base, problem.everything)
    wrong = logits.scatter(1, problem.goal.labels[:, None].to(logits.device), -torch.inf)
    order = wrong.topk(min(aims, logits.shape[1] - 1), dim=1).indices
    yield PARTS[0], None
    for name in PARTS[1:3]:
        for aim in order.T:
            yield name, aim
    yield PARTS[3], None


def _attempt(
    problem: Problem, name: str, aim: Tensor | None, standing: Tensor, steps: int, queries: int, seed: int
) -> tuple[Tensor, Tensor]:
    """One attack on the pictures that stand: what it made of them, and (b,) which fool the network."""
    goal = problem.goal.at(standing)
    if aim is not None:
        goal = Goal(goal.labels, aims=aim[standing.to(aim.device)])
    part = Problem(
        problem.model, problem.base_at(standing), goal, problem.budget, eightbit=problem.eightbit, watch=problem.watch
    )
    if name == "square":
        made = square(part, queries=queries, seed=seed)
    elif name == "fab-t":
        made = fab(part, steps=steps)
    else:
        made = apgd(part, Goal.cross_entropy if name == "apgd-ce" else Goal.ratio, steps=steps, seed=seed)
    margin = part.margin(made, part.everything)
    inside = part.budget.size(made - part.base) <= part.budget.epsilon * (1 + 1e-5)
    problem.queries[standing] += part.queries
    problem.gradients[standing] += part.gradients
    return made, (margin > 0) & inside.cpu()
