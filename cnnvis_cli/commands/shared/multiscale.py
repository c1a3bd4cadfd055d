"""Coarse to fine, as `style` and `texture` work: sizes, steps and tiles, fitted to a budget and told before the start.

Scales sqrt(2) apart, Adam's betas of (0.9, 0.99), its moments carried from scale to scale and the averaged iterate are those of
style-transfer-pytorch (Crowson 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from cnnvis_cli.config.statistics import StatisticsConfig
from cnnvis_cli.engine.locality.tiling import Tiled, tiled_value_gradient
from cnnvis_cli.engine.network.network import Network
from cnnvis_cli.engine.optim.budget import FINISH, Budget
from cnnvis_cli.engine.optim.cost import Cost, measure
from cnnvis_cli.engine.optim.evaluate import value_gradient
from cnnvis_cli.engine.optim.loop import Loop, Outcome, Stage
from cnnvis_cli.engine.optim.objectives import total_variation
from cnnvis_cli.engine.optim.parameterizations import Fourier, Pixels
from cnnvis_cli.engine.optim.transforms import Transform
from cnnvis_cli.engine.statistics import STATISTICS, Sliced, Statistic, Wasserstein
from cnnvis_cli.engine.synthesis.style import StyleLoss, content_features, style_layers, summarize
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.job import Job

# Above this estimate for the untiled gradient, a picture is worked on in tiles of this side.
WHOLE_AT_MOST, TILE = 3 * 2**30, 512
# A budget is spent on larger pictures as long as every scale gets so many steps, and on at most so many.
FEWEST, MOST = 30, 300
# Two forward passes instead of one, and halos.
TILED_FACTOR = 2.0


@dataclass(frozen=True)
class ScalePlan:
    """`sizes`: long side of each scale. `tile`: side of tiles from the scale on that needs them, 0 for none."""

    sizes: tuple[int, ...]
    steps: int
    tile: int
    seconds: float
    bytes: float

    @property
    def total_steps(self) -> int:
        return self.steps * len(self.sizes)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def tile_at(self, size: int) -> int:
        return self.tile if size > 2 * self.tile else 0


# What a first step is measured with.
DEFAULT_SIZE = 256  # long side in pixels, where neither it nor a budget is given
_UNPLANNED = ScalePlan((), 1, 0, 0.0, 0.0)
# From the plan, the number of a scale and what the scale before it made (cropped to the result's shape) to its loop.
MakeLoop = Callable[[ScalePlan, int, int, "Tensor | None"], Loop]


def ladder(size: int, smallest: int) -> tuple[int, ...]:
    """Long sides from about `smallest` to `size`, each sqrt(2) times the one before."""
    sizes = [size]
    while round(size / 2 ** (len(sizes) / 2)) >= smallest:
        sizes.append(round(size / 2 ** (len(sizes) / 2)))
    return tuple(reversed(sizes))


def work(config: StatisticsConfig, sizes: Sequence[int], aspect: float, cost: Cost, tileable: bool) -> list[float]:
    """What a step at each scale costs, in pixels that are worked on whole."""
    return [s * s * aspect * (TILED_FACTOR if _tile(config, s, aspect, cost, tileable) else 1.0) for s in sizes]


def _tile(config: StatisticsConfig, side: int, aspect: float, cost: Cost, tileable: bool) -> int:
    if not tileable or config.tile == 0:
        return 0
    if config.tile:
        return config.tile if side > 2 * config.tile else 0
    return TILE if cost.bytes * side * side * aspect > WHOLE_AT_MOST else 0


def make_plan(
    config: StatisticsConfig,
    size: int | None,
    largest: int,
    aspect: float,
    cost: Cost,
    tileable: bool,
    left: float | None = None,
) -> ScalePlan:
    """Sizes, steps and tiles for a result whose long side is `size`, or what the budget allows up to `largest`.

    `aspect`: short side over long side; `tileable`: whether the loss can be worked on in tiles; `left`: what the budget still
    has, where some of it is gone.
    """

    def prices(sizes: tuple[int, ...]) -> list[float]:
        """Seconds for one step at each scale."""
        return [cost.seconds * one for one in work(config, sizes, aspect, cost, tileable)]

    budget = left if config.budget is not None and left is not None else config.budget
    chosen = size or (DEFAULT_SIZE if budget is None else min(largest, 4096))
    if size is None and budget is not None:
        while chosen > 128 and sum(prices(ladder(chosen, config.smallest))) * FEWEST > budget:
            chosen = round(chosen / 2**0.5)
    sizes = ladder(chosen, config.smallest)
    each = prices(sizes)
    steps = config.steps
    if budget is not None:
        steps = max(1, min(MOST, int((budget - FINISH * each[-1]) / max(sum(each), 1e-9))))
    tile = max(_tile(config, s, aspect, cost, tileable) for s in sizes)
    side = min(chosen, 3 * tile // 2 + 256) if tile else chosen
    return ScalePlan(sizes, steps, tile, sum(each) * steps, cost.bytes * side * (side if tile else side * aspect))


def announce(job: Job, plan: ScalePlan, key: str = "loop") -> None:
    """Steps, memory and time, before the start; the plan also goes into the sidecar."""
    job.record.note(**{"plan" if key == "loop" else f"plan {key}": plan.as_dict()})
    where = f" in tiles of {plan.tile} px" if plan.tile else ""
    job.say(
        f"{plan.steps} steps at each of {len(plan.sizes)} scales ({', '.join(map(str, plan.sizes))} px){where}: "
        f"about {plan.seconds:.0f} s and {plan.bytes / 2**20:.0f} MiB"
    )


@dataclass(frozen=True)
class Multiscale:
    """A run from coarse to fine that is done: the pictures of the last scale, with their bleed, and how it went."""

    pictures: Tensor
    plan: ScalePlan
    outcomes: list[Outcome]

    def note(self, job: Job) -> None:
        """Trace and ends into the job's record."""
        job.record.trace = [outcome.means for outcome in self.outcomes]
        job.record.stopped = [outcome.stopped for outcome in self.outcomes]


def run_multiscale(
    job: Job,
    config: StatisticsConfig,
    make_loop: MakeLoop,
    key: str,
    *,
    size: int | None,
    largest: int,
    aspect: float,
    tileable: bool,
    ends: float | None = None,
) -> Multiscale:
    """ScalePlan from one measured step, say what it costs, and go through the scales. An interrupted run keeps its plan.

    `size`, `largest`, `aspect`, `tileable` as for `make_plan`. `make_loop(plan, size, number, before)` makes a scale's loop.
    `ends`: in seconds of the job, when a budget is to be spent (all of it, if not given). With a budget the number of steps is
    what the machine does in the time: a run that goes on keeps what is done and has the time that was left, not the same bytes.
    """
    ends = config.budget if ends is None else ends
    if (known := job.resume.get(f"plan {key}")) is None:
        first = make_loop(_UNPLANNED, ladder(size or DEFAULT_SIZE, config.smallest)[0], 0, None)
        cost = measure(first.evaluate, first.image(), job.clock)
        plan = make_plan(config, size, largest, aspect, cost, tileable, None if ends is None else ends - job.spent())
        job.resume.keep(f"plan {key}", plan.as_dict())
        job.resume.keep(f"cost {key}", asdict(cost))
    else:
        plan, cost = ScalePlan(**known), Cost(**job.resume.get(f"cost {key}"))
    announce(job, plan, key)
    budget = None
    if config.budget is not None and ends is not None:
        shares = work(config, plan.sizes, aspect, cost, tileable)
        budget = Budget(shares, cost.seconds, ends, job.spent, shrinks=size is None)

    def stage(side: int, number: int) -> Stage:
        def made(before: Tensor | None) -> Loop | None:
            if budget is None:
                return make_loop(plan, side, number, before)
            if not budget.begin(number):
                return None
            return replace(make_loop(replace(plan, steps=MOST), side, number, before), enough=budget.enough)

        return made

    stages = [stage(side, number) for number, side in enumerate(plan.sizes)]
    outcomes = job.loops.run_stages(stages, plan.total_steps, key)
    made = replace(plan, sizes=plan.sizes[: len(outcomes)])
    if budget is not None:
        _tell_cut(job, plan, made, [outcome.steps for outcome in outcomes], key)
    return Multiscale(outcomes[-1].pictures, made, outcomes)


def _tell_cut(job: Job, plan: ScalePlan, made: ScalePlan, steps: list[int], key: str) -> None:
    """Which steps the budget allowed, and what it cut of the plan."""
    job.record.note(**{"plan" if key == "loop" else f"plan {key}": {**made.as_dict(), "steps": steps}})
    cut = [
        f"{done} of {plan.steps} steps at {side} px" for side, done in zip(made.sizes, steps, strict=True) if done < plan.steps
    ]
    if len(made.sizes) < len(plan.sizes):
        cut.append(f"{made.sizes[-1]} px instead of {plan.sizes[-1]}")
    if cut:
        job.warn(f"slower than measured before the start; to keep the budget: {', '.join(cut)}.")


def layer_weights(config: StatisticsConfig, network: Network) -> dict[str, float]:
    """The style layers with their weights; a layer that does not exist or gives no maps is told here."""
    try:
        layers = list(config.style_layers) or style_layers(network)
    except UserError as error:
        raise UserError(f"{error} Name them: style_layers=...") from None
    weights = config.layer_weights or [1.0] * len(layers)
    if len(weights) != len(layers):
        raise UserError(f"layer_weights: {len(weights)} values for the {len(layers)} layers {', '.join(layers)}.")
    for layer in layers:
        check_maps(network, layer)
    return dict(zip(layers, weights, strict=True))


def check_maps(network: Network, layer: str) -> None:
    if not network.layer(layer).spatial:
        raise UserError(f"layer '{layer}' of {network.name} gives no maps but a vector; style needs maps.")


def smoothing(config: StatisticsConfig, network: Network) -> bool:
    """As asked for, else on for pixels of networks with shortcuts (Wang et al. 2021). With Fourier coefficients it is not
    needed: on a ResNet-18 less of the style's distance is left without it."""
    if config.smooth is not None:
        return config.smooth
    if config.parameterization == "fourier" and update_of(config, changing=False, tiled=False) == "lbfgs":
        return False
    return any(layer.kind in ("BasicBlock", "Bottleneck", "InvertedResidual") for layer in network.layers.values())


def statistic_of(config: StatisticsConfig, generator: torch.Generator, fresh: bool) -> Statistic:
    """The statistic; `fresh`: sliced Wasserstein draws new directions at every step."""
    if config.statistic == "sliced":
        return Sliced(config.seed, generator=generator if fresh else None)
    return STATISTICS[config.statistic]()


def update_of(config: StatisticsConfig, *, changing: bool, tiled: bool) -> Literal["adam", "lbfgs"]:
    """L-BFGS where the objective stays the same from step to step and its history of twenty pictures fits into memory."""
    if config.update != "auto":
        return config.update
    return "adam" if changing or tiled or config.statistic == "sliced" else "lbfgs"


def loop_for(
    config: StatisticsConfig,
    network: Network,
    loss: StyleLoss,
    start: Tensor,
    *,
    steps: int,
    generator: torch.Generator,
    update: Literal["adam", "lbfgs"],
    tiled: Tiled | None = None,
    transform: Transform | None = None,
    gradient: Callable[[Tensor], Tensor] | None = None,
    around: bool = False,
) -> Loop:
    """The loop at one scale: minus the loss and the total variation of pixels. `around`: the picture is to wrap."""
    pixels = -config.tv * total_variation(around=around) if config.tv else None
    if tiled is not None:
        evaluate = tiled_value_gradient(tiled, loss, pixels)
    else:
        objective = loss.objective() if pixels is None else loss.objective() + pixels
        evaluate = value_gradient(network, objective, transform=transform, generator=generator)
    return Loop(
        # Adam's memory goes from scale to scale as maps do, which coefficients are not.
        image=Fourier.from_pictures(start) if config.parameterization == "fourier" and update == "lbfgs" else Pixels(start),
        evaluate=evaluate,
        steps=steps,
        update=update,
        rate=config.rate or (1.0 if update == "lbfgs" else 0.03),
        generator=generator,
        gradient=gradient,
        average=config.average,
        betas=(0.9, 0.99),
        warm=True,
    )


def distances(
    network: Network, layers: Sequence[str], result: Tensor, targets: Sequence[Tensor], shares: Sequence[float], tile: int = 0
) -> float:
    """Mean Wasserstein distance of statistics at some layers from those of the target pictures, relative to their energy."""
    statistic = Wasserstein()
    tiled = Tiled(network, layers, tile) if tile else None
    found = [summarize(network, target, statistic, layers, tiled=tiled) for target in targets]
    own = summarize(network, result, statistic, layers, tiled=tiled)
    values = [
        statistic.distance(own[layer], statistic.target([one[layer] for one in found], shares)).item() for layer in layers
    ]
    return sum(values) / len(values)


def content_distance(network: Network, layers: Sequence[str], result: Tensor, content: Tensor, tile: int = 0) -> float:
    """Mean squared distance of the maps of two pictures of one size, relative to those of the content."""
    tiled = Tiled(network, layers, tile) if tile else None
    own, goal = content_features(network, result, layers, tiled=tiled), content_features(network, content, layers, tiled=tiled)
    values = [((own[layer] - goal[layer]).square().sum() / goal[layer].square().sum()).item() for layer in layers]
    return sum(values) / len(values)
