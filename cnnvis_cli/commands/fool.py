"""`cnnvis fool`: pictures changed so little that one hardly sees it, for which the network answers something else."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor

from cnnvis_cli.commands.fooling.attacking import auto, bounds, common_change, run_attack
from cnnvis_cli.commands.fooling.cases import Case, cases_of, goal_of
from cnnvis_cli.commands.fooling.comparing import save_curve, save_transfer
from cnnvis_cli.config.base import NetworkConfig
from cnnvis_cli.config.fool import UNTIL_SURE, FoolConfig
from cnnvis_cli.engine.attacks.assessment import changes, suspicions
from cnnvis_cli.engine.attacks.least import attacked
from cnnvis_cli.engine.attacks.problem import Goal, Problem
from cnnvis_cli.engine.attacks.square import square
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.loop import Watch
from cnnvis_cli.errors import Interrupted
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.jobs.progress import Task
from cnnvis_cli.pictures.sheet import sheet

# Pictures on the sheet that compares before and after; the others have files of their own.
COMPARED = 36


def run(config: FoolConfig, job: Job) -> None:
    network = job.inputs.network(config)
    others = {entry: job.inputs.network(NetworkConfig.of(entry)) for entry in config.also}
    cases = cases_of(config, job, network)
    pictures = torch.cat([case.picture for case in cases])
    goal = goal_of(config, network, cases, pictures)
    names = [case.name for case in cases]
    for warning in suspicions(network, pictures, goal, names):
        job.warn(warning)
    made = _attacked(config, job, network, pictures, goal)
    rows = [
        _row(job, network, case, goal.at(torch.tensor([number])), made, number, alone=len(cases) == 1)
        for number, case in enumerate(cases)
    ]
    _compare(config, job, cases, rows)
    _check(config, job, network, pictures, goal, rows)
    job.record.shows(classes=[row[key] for row in rows for key in ("label", "target", "answer") if row[key]])
    job.record.note(rows=[{key: value for key, value in row.items() if key != "saved"} for row in rows])
    if len(cases) == 1:
        job.scores.update({key: value for key, value in rows[0].items() if key not in ("saved", "picture")})
    else:
        # A picture that was wrong before any attack counts for none.
        right = [row for row in rows if row["right_before"]]
        job.scores.update(pictures=len(rows), right_before=len(right), wrong_before=len(rows) - len(right))
        job.scores["fooled"] = sum(row["fooled"] for row in right)
        job.scores["fooled_before_saving"] = sum(row["fooled_before_saving"] for row in right)
        # As attacks are compared elsewhere: of the pictures that the attack made, before they were rounded to 8 bits.
        job.scores["robust_accuracy_unrounded"] = (len(right) - job.scores["fooled_before_saving"]) / len(rows)
        share = (len(right) - job.scores["fooled"]) / len(rows)
        job.scores.update(robust_accuracy=share, standard_error=math.sqrt(share * (1 - share) / len(rows)))
        columns = [key for key, value in rows[0].items() if not isinstance(value, Tensor | list)]
        job.results.save_csv(columns, [[_cell(row[column]) for column in columns] for row in rows], "table")
    networks = {config.model: network, **others}
    if config.budgets:
        save_curve(config, job, networks, cases, goal)
    if config.also:
        save_transfer(config, job, networks, cases, [row["saved"] for row in rows])


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


# The attack


def _attacked(config: FoolConfig, job: Job, network: Network, pictures: Tensor, goal: Goal) -> dict[str, Any]:
    """The 8-bit pictures to save with their costs. What was finished when a run was interrupted is taken from its state."""
    state = job.resume.get("attacked") or {key: [] for key in (*_LISTED, *_STACKED)}
    batch = len(pictures) if config.attack == "universal" else config.batch
    places = list(torch.arange(len(pictures)).split(batch))
    most = _most_steps(config)
    parts: list[str] = []
    sure = config.confidence if config.attack in UNTIL_SURE else 0.0

    def attack(problem: Problem) -> Tensor:
        if config.attack == "autoattack":
            found, parts[:] = auto(config, problem)
            return found
        if config.attack != "universal":
            return run_attack(config, problem)
        change, found = common_change(config, problem)
        job.results.save_picture(_shown(config, change)[0], "universal")
        return found

    for number in range(len(state["pictures"]), len(places)):
        where = places[number]
        with job.track(f"fool {config.attack} {number + 1}/{len(places)}", most) as bar:
            watch = Watch(partial(_advance, bar, count(1), most), job.interrupted)
            chosen = pictures[where.to(pictures.device)]
            made = attacked(network, chosen, goal.at(where), bounds(config), attack, confidence=sure, watch=watch)
        if job.interrupted():
            job.resume.keep("attacked", state)
            job.resume.save()
            raise Interrupted(
                f"interrupted after {number * batch} of {len(pictures)} pictures; the same command goes on from there."
            )
        made.pictures = made.pictures.cpu()
        state["how"].extend(made.how)
        state["by"].extend(parts or [config.attack] * len(where))
        for key in _STACKED:
            state[key].append(getattr(made, key))
    return {key: value if key in _LISTED else torch.cat(value) for key, value in state.items()}


_TOLD = 3  # pictures that are named in a line each
# What is kept of each batch: words, and tensors.
_LISTED = ("how", "by")
_STACKED = ("pictures", "worked", "epsilon", "queries", "gradients")


def _advance(bar: Task, steps: Iterator[int], most: int, step: int, values: Tensor, pictures: Tensor) -> None:
    """One step more of all tries together: each try counts its own from 1 again."""
    bar.advance(min(next(steps), most))


def _most_steps(config: FoolConfig) -> int:
    """Steps that a picture may take, all tries together; most pictures end sooner."""
    steps = config.steps or (100 if config.attack == "autoattack" else 40)
    each = {
        "square": config.asks,
        "autoattack": steps * (1 + 2 * config.aims) + config.asks,
        **dict.fromkeys(("lbfgs", "carlini-wagner"), steps * config.searches),
    }
    return each.get(config.attack, steps * config.restarts) * len(config.tried)


# What is saved of it


@torch.no_grad()
def _row(
    job: Job,
    network: Network,
    case: Case,
    goal: Goal,
    made: dict[str, Any],
    number: int,
    *,
    alone: bool,
) -> dict[str, Any]:
    """Save one picture and judge the file."""
    saved = _keep(job, made["pictures"][number], case, "", alone=alone)
    _keep(job, case.picture, case, "original", alone=alone)
    before, after = (network(picture).softmax(1)[0] for picture in (case.picture, saved))
    change = changes(case.picture, saved)[0]
    fooled = bool(goal.met(network(saved)))
    wanted = goal.labels if goal.targets is None else goal.targets
    best = int(after.argmax())
    answers = after.topk(min(2, len(after))).values
    return {
        "picture": case.name,
        "label": network.class_name(int(goal.labels)),
        "target": "" if goal.targets is None else network.class_name(int(wanted)),
        "fooled": fooled,
        "right_before": int(before.argmax()) == int(goal.labels),
        "margin": (answers[0] - answers[-1]).item(),
        "fooled_before_saving": bool(made["worked"][number]),
        "answer_before": network.class_name(int(before.argmax())),
        "probability_before": before.max().item(),
        "answer": network.class_name(best),
        "probability": after[best].item(),
        "epsilon": made["epsilon"][number].item(),
        "by": made["by"][number] if fooled else "",
        "how": made["how"][number],
        "queries": int(made["queries"][number]),
        "steps": int(made["gradients"][number]),
        **vars(change),
        "linf_levels": round(change.linf * 255),
        "saved": saved,
        "top_before": _top(network, before),
        "top": _top(network, after),
    }


def _keep(job: Job, picture: Tensor, case: Case, what: str, *, alone: bool) -> Tensor:
    """Save a picture of a case: beside the result, or of many in a folder of their own."""
    if alone:
        return job.results.save_picture(picture, what)
    return job.results.save_part(picture, f"{case.name}-{what}" if what else case.name)


def _top(network: Network, probabilities: Tensor, count: int = 5) -> list[dict[str, Any]]:
    values, indices = probabilities.topk(min(count, len(probabilities)))
    return [
        {"class": network.class_name(i), "probability": value}
        for value, i in zip(values.tolist(), indices.tolist(), strict=True)
    ]


def _compare(config: FoolConfig, job: Job, cases: list[Case], rows: list[dict[str, Any]]) -> None:
    """Before, the change magnified around grey, after; each with what the network says. And the change as a picture."""
    tiles, captions = [], []
    for number, (case, row) in enumerate(zip(cases, rows, strict=True)):
        change = (row["saved"] - case.picture)[0]
        shown, factor = _shown(config, change)
        _keep(job, shown, case, "change", alone=len(cases) == 1)
        if number >= COMPARED:
            continue
        tiles += [_enlarged(picture) for picture in (case.picture[0], shown, row["saved"][0])]
        captions += [
            f"{_short(row['answer_before'])} {row['probability_before']:.0%}"
            + ("" if row["right_before"] else f"\nwrong before: {_short(row['label'])}"),
            f"{row['linf_levels']} of 255, shown x {factor:.0f}",
            f"{_short(row['answer'])} {row['probability']:.0%}"
            + ("" if row["fooled"] or not row["right_before"] else "\nnot fooled"),
        ]
    beside = 1 if len(cases) <= 4 else 2 if len(cases) <= 16 else 3
    job.results.save_image(sheet(tiles, captions, columns=3 * beside).image, "compare")


def _shown(config: FoolConfig, change: Tensor) -> tuple[Tensor, float]:
    """A change (3, H, W) magnified around grey, and the factor."""
    factor = config.magnify or round(0.3 / max(change.abs().max().item(), 2 / 255))
    return (0.5 + factor * change).clamp(0, 1), factor


def _enlarged(picture: Tensor, least: int = 192) -> Tensor:
    """(3, H, W) with every pixel repeated until captions have room beside small pictures."""
    times = math.ceil(least / picture.shape[-1])
    return picture.repeat_interleave(times, 1).repeat_interleave(times, 2)


def _short(label: str) -> str:
    """The first of a class's synonyms."""
    return label.split(",")[0]


def _check(config: FoolConfig, job: Job, network: Network, pictures: Tensor, goal: Goal, rows: list[dict[str, Any]]) -> None:
    """Where the gradient attack failed, let a black box try: if that succeeds, the gradients mislead."""
    failed = torch.tensor([number for number, row in enumerate(rows) if not row["fooled"]], dtype=torch.long)
    names = [str(rows[number]["picture"]) for number in failed.tolist()]
    if len(names) > _TOLD:
        job.warn(f"{len(names)} of {len(rows)} pictures were not fooled by {config.attack}: {', '.join(names[:_TOLD])}, ...")
    else:
        for name in names:
            job.warn(f"{name}: {config.attack} did not fool {network.name}; the saved picture is no success.")
    if not len(failed) or config.attack in ("square", "universal", "autoattack") or not config.check or config.budget is None:
        return
    where = failed.to(pictures.device)
    problem = Problem(network, pictures[where], goal.at(failed), bounds(config)[-1])
    hits = problem.margin(square(problem, queries=config.check, seed=config.seed), problem.everything) > 0
    for number in failed[hits].tolist():
        job.warn(
            f"{rows[number]['picture']}: square, a black box, fools the network with {config.check} queries where "
            f"{config.attack} failed. Its gradients mislead: the failure does not mean that the network is robust."
        )
