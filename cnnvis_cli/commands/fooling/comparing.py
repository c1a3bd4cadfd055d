"""Figures that compare: accuracy by budget, and who is fooled by what was made for whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from cnnvis_cli.commands.fooling.attacking import bounds, run_attack
from cnnvis_cli.commands.fooling.cases import Case, goal_of
from cnnvis_cli.config.fool import FoolConfig
from cnnvis_cli.engine.attacks.assessment import accuracy_by_budget
from cnnvis_cli.engine.attacks.problem import Goal, Problem
from cnnvis_cli.engine.attacks.quantize import quantize
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.loop import Watch
from cnnvis_cli.engine.pixels import eight_bit
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures import plots
from cnnvis_cli.pictures.read import to_square


def save_curve(config: FoolConfig, job: Job, networks: Mapping[str, Network], cases: Sequence[Case], goal: Goal) -> None:
    """Share of the pictures that withstand the attack, by budget, a line for each network that was attacked itself."""
    clean = torch.cat([case.picture for case in cases])
    norm, attack = bounds(config)[-1].norm, partial(run_attack, config)
    shares: dict[str, list[float]] = {}
    for number, (name, network) in enumerate(networks.items()):
        pictures = clean if not number else eight_bit(to_square(clean, network.size))
        own = goal if not number else _goal(config, job, network, cases, pictures)
        shares[name] = accuracy_by_budget(network, pictures, own, norm, config.budgets, _followed(attack, job))
        job.check_interrupt()
    rows = [[epsilon, *(line[number] for line in shares.values())] for number, epsilon in enumerate(config.budgets)]
    names = list(shares) if len(shares) > 1 else ["accuracy"]
    job.results.save_csv(["epsilon", *names], rows, "curve")
    levels = [epsilon * 255 for epsilon in config.budgets] if norm == "linf" else list(config.budgets)
    label = "epsilon (linf): largest change of a value, of 255" if norm == "linf" else "epsilon (l2): length of the change"
    lines = {name if len(shares) > 1 else config.attack: (levels, line) for name, line in shares.items()}
    job.results.save_image(plots.line(lines, label, f"accuracy under {config.attack}, {len(cases)} pictures"), "curve")
    first, *others = shares
    also = {"others": {name: shares[name] for name in others}} if others else {}
    job.record.note(curve={"epsilon": config.budgets, "accuracy": shares[first], **also})


def _followed(attack: Callable[[Problem], Tensor], job: Job) -> Callable[[Problem], Tensor]:
    """The attack, which stops where the job is asked to."""

    def followed(problem: Problem) -> Tensor:
        problem.watch = Watch(should_stop=job.interrupted)
        return attack(problem)

    return followed


def _goal(config: FoolConfig, job: Job, network: Network, cases: Sequence[Case], pictures: Tensor) -> Goal:
    """The same classes by their names; where a network has not all of them, any other answer than its own first one."""
    try:
        return goal_of(config, network, list(cases), pictures)
    except UserError:
        job.warn(f"{network.name} has other classes: its line counts the pictures that keep its own answer.")
        return goal_of(config.model_copy(update={"label": "", "target": ""}), network, list(cases), pictures)


def save_transfer(
    config: FoolConfig, job: Job, networks: Mapping[str, Network], cases: Sequence[Case], saved: Sequence[Tensor]
) -> None:
    """Who is fooled by what was made for whom: the share of pictures whose answer changes. For the other networks the
    pictures are made without a target, since their classes may be others."""
    clean = torch.cat([case.picture for case in cases])
    sources, made = [clean], [torch.cat(list(saved))]
    for other in list(networks.values())[1:]:
        source = eight_bit(to_square(clean, other.size))
        with torch.no_grad():
            goal = Goal(other(source).argmax(1))
        problem = Problem(other, source, goal, bounds(config)[-1], watch=Watch(should_stop=job.interrupted))
        sources.append(source)
        made.append(quantize(problem, run_attack(config, problem)).pictures)
        job.check_interrupt()
    matrix = [[_changed(judge, *pair) for judge in networks.values()] for pair in zip(sources, made, strict=True)]
    names = [name.partition("@")[0] for name in networks]
    job.results.save_csv(["made for", *names], [[name, *row] for name, row in zip(names, matrix, strict=True)], "transfer")
    job.results.save_image(
        plots.matrix(matrix, names, names, f"other answers than before, of {len(clean)}, by", "made for"), "transfer"
    )
    job.record.note(transfer={"networks": names, "changed": matrix})


@torch.no_grad()
def _changed(judge: Network, clean: Tensor, made: Tensor) -> float:
    """Share of pictures for which the judge, at its own size, answers otherwise than for the clean one."""
    before, after = (judge(eight_bit(to_square(pictures, judge.size))).argmax(1) for pictures in (clean, made))
    return (before != after).float().mean().item()
