"""What every kind of training shares: the loop with its progress, its state on disk, its curve and its file of weights."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from cnnvis_cli.config.train import TrainConfig
from cnnvis_cli.engine.generators.upconv import Upsample, answer_to_flat, most_uneven, ripple, untrained
from cnnvis_cli.engine.learning.loop import Learned, Learner, Learning, Schedule, Watch, learn
from cnnvis_cli.errors import Interrupted
from cnnvis_cli.jobs.job import Job
from cnnvis_cli.pictures import plots
from cnnvis_cli.pictures.sheet import sheet

FORMAT = 1  # of the files of weights, counted up where an older cnnvis could not read them


_FIRST_LOOK = 15.0  # seconds
_FIRST_COLUMN = 8  # steps
_ENLARGED = 10  # pixels of a place of a map
_KEY = "learning"  # of its state among what an interrupted run keeps


def pace(config: TrainConfig) -> dict[str, Any]:
    """Those settings of `Learning` that every kind takes from its config in the same way."""
    return {
        "rate": config.rate,
        "decay": config.decay,
        "schedule": Schedule(config.warm, config.flat),
        "clip": config.clip,
        "average": config.average,
        "budget": config.budget,
    }


def milestone(step: int) -> bool:
    """Whether a look after so many steps is kept: each after twice as many, whatever the clock says."""
    return step >= _FIRST_COLUMN and step & (step - 1) == 0


def learned(job: Job, learning: Learning, check: float, look: Callable[[Learner], None] | None = None) -> Learned:
    """Run the loop with a progress bar and a state on disk every `check` seconds. The same command goes on from it.

    `look`: what else is made then, once after a quarter of a minute, and at every `milestone`."""
    began = last = time.monotonic()
    looked, at = job.resume.get(_KEY) is not None, 0

    def wants() -> bool:
        now = time.monotonic()
        return now - last >= check or (look is not None and (milestone(at) or (not looked and now - began >= _FIRST_LOOK)))

    def keep(learner: Learner) -> None:
        nonlocal last, looked
        if look is not None:
            look(learner)
        if milestone(at) and time.monotonic() - last < check:
            return
        looked = True
        job.resume.keep(_KEY, learner.state())
        job.resume.save()
        last = time.monotonic()

    with job.track(f"train {job.name[:40]}", learning.steps) as bar:

        def on_step(step: int, steps: int, losses: Mapping[str, float]) -> None:
            nonlocal at
            at = step
            if steps < learning.steps or learning.budget is None:  # the budget has become a number of steps
                bar.advance(step, "  ".join(f"{name} {value:.4g}" for name, value in losses.items()), steps)

        if learning.budget is not None:
            # What the job has spent before its first step counts; what an interrupted run spent on steps is in its state.
            learning = replace(learning, budget=max(0.0, learning.budget - job.spent()), clock=job.clock)
        watch = Watch(on_step, job.interrupted, wants, keep)
        result = learn(learning, state=job.resume.get(_KEY), watch=watch)
    # Also where it has come to its end: judging the result takes a while, and the same command then begins with that.
    if result.stopped != "diverged":
        job.resume.keep(_KEY, result.state)
        job.resume.save()
    if result.stopped == "interrupted":
        raise Interrupted(f"interrupted after {result.steps} steps. The same command goes on from there.")
    return result


def common_card(
    kind: str, config: TrainConfig, left_out: Collection[str], pictures: int, result: Learned, scores: Mapping[str, Any]
) -> dict[str, Any]:
    """What every file of weights says about itself. No times: the same training gives the same bytes.

    `left_out`: the config's keys that are no part of the recipe."""
    return {
        "format": str(FORMAT),
        "kind": kind,
        "recipe": config.model_dump(mode="json", exclude=set(left_out)),
        "pictures": pictures,
        "stopped": result.stopped,
        "steps": result.steps,
        "scores": scores,
        "losses": brief(result.trace),
    }


def save_weights(job: Job, state: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """NAME.safetensors with its card, every value of which is JSON text, in the metadata."""
    metadata = {key: value if isinstance(value, str) else json.dumps(value) for key, value in card.items()}
    job.results.save_bytes(_ordered(save({key: value.contiguous() for key, value in state.items()}, metadata)), ".safetensors")


def _ordered(data: bytes) -> bytes:
    """The bytes of a .safetensors file with its header's keys in order: the library shuffles the metadata at every writing."""
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def smooth(values: list[float], window: int) -> tuple[list[float], list[float]]:
    """Steps, and the mean of each `window` of the values before them, nan left out."""
    window = max(1, min(window, len(values)))
    ends = range(window, len(values) + 1, window)
    parts = {end: [value for value in values[end - window : end] if not math.isnan(value)] for end in ends}
    means = {float(end): sum(part) / len(part) for end, part in parts.items() if part}
    return list(means), list(means.values())


def save_curve(job: Job, result: Learned, floors: Mapping[str, float] | None = None) -> None:
    """NAME-curve.png: the losses, each as means over a hundredth of the run; `floors`: levels to compare with, as lines."""
    window = max(1, result.steps // 100)
    series = {name: smooth(values, window) for name, values in result.trace.items()}
    job.results.save_image(plots.losses(series, floors or {}), "curve")


def save_ripple(job: Job, module: nn.Module, kind: Upsample) -> dict[str, float]:
    """NAME-ripple.png: what enlarging makes of a map that is the same everywhere, before any training and after; and how uneven
    both are."""
    layers = {"before training": untrained(kind), "after": most_uneven(module)}
    tiles, captions, found = [], [], {}
    for when, layer in layers.items():
        if layer is None:
            return {}
        uneven = found[f"ripple_{when.split()[0]}"] = ripple(layer)
        made = answer_to_flat(layer)[0].float().cpu()
        worst = made[int(made.std((1, 2)).argmax())]
        shown = (worst / worst.abs().mean().clamp_min(1e-12) * worst.mean().sign() / 2).clamp(0, 1)
        tiles.append(shown.repeat_interleave(_ENLARGED, 0).repeat_interleave(_ENLARGED, 1).expand(3, -1, -1))
        captions.append(f"{kind}, {when}: {uneven:.2f}")
    job.results.save_image(sheet(tiles, captions, columns=2).image, "ripple")
    return found


def brief(trace: Mapping[str, list[float]], most: int = 40) -> dict[str, list[list[float]]]:
    """The losses as pairs (step, mean), few enough for a card."""
    found = {}
    for name, values in trace.items():
        steps, means = smooth(values, max(1, -(-len(values) // most)))
        found[name] = [[step, float(f"{mean:.4g}")] for step, mean in zip(steps, means, strict=True)]
    return found
