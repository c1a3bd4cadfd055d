"""Which attack a config asks for, and within which bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from cnnvis_cli.config.fool import UNTIL_SURE, FoolConfig
from cnnvis_cli.engine.attacks.autoattack import autoattack
from cnnvis_cli.engine.attacks.ball import ascent, fgsm, pgd
from cnnvis_cli.engine.attacks.bound import Bound
from cnnvis_cli.engine.attacks.nearest import carlini_wagner, deepfool, lbfgs
from cnnvis_cli.engine.attacks.problem import Problem
from cnnvis_cli.engine.attacks.square import square
from cnnvis_cli.engine.attacks.universal import universal


def run_attack(config: FoolConfig, problem: Problem) -> Tensor:
    """Pictures (B, 3, H, W) that the attack made, its settings those that the config names and its own defaults else."""
    given: dict[str, Any] = {key: getattr(config, key) for key in ("steps", "rate") if getattr(config, key) is not None}
    sure: dict[str, Any] = {"confidence": config.confidence} if config.attack in UNTIL_SURE else {}
    search: dict[str, Any] = {"searches": config.searches, "constant": config.constant}
    steps: dict[str, Any] = {key: given[key] for key in ("steps",) if key in given}
    within: dict[str, Any] = {"steps": 40, "loss": config.loss, "seed": config.seed, **given, **sure}
    attacks: dict[str, Callable[[], Tensor]] = {
        "ascent": partial(ascent, problem, **given, **sure),
        "fgsm": partial(fgsm, problem, loss=config.loss),
        "ifgsm": partial(pgd, problem, random_start=False, **within),
        "pgd": partial(pgd, problem, restarts=config.restarts, **within),
        "momentum": partial(pgd, problem, random_start=False, momentum=config.momentum, **within),
        "lbfgs": partial(lbfgs, problem, **steps, **search),
        "deepfool": partial(deepfool, problem, **steps, candidates=config.candidates, overshoot=config.overshoot),
        "carlini-wagner": partial(carlini_wagner, problem, **given, **search, kappa=config.kappa),
        "square": partial(square, problem, queries=config.asks, seed=config.seed),
        "autoattack": lambda: auto(config, problem)[0],
        "universal": lambda: common_change(config, problem)[1],
    }
    return attacks[config.attack]()


def auto(config: FoolConfig, problem: Problem) -> tuple[Tensor, list[str]]:
    """AutoAttack's pictures, and by which of its parts each was fooled."""
    return autoattack(problem, steps=config.steps or 100, aims=config.aims, queries=config.asks, seed=config.seed)


def common_change(config: FoolConfig, problem: Problem) -> tuple[Tensor, Tensor]:
    """The one change (1, 3, H, W) for all pictures, and these changed by it."""
    given: dict[str, Any] = {key: getattr(config, key) for key in ("steps", "rate") if getattr(config, key) is not None}
    return universal(problem, batch=config.batch, **given)


def bounds(config: FoolConfig) -> list[Bound]:
    """The budgets that are tried, rising; the last is the largest there is."""
    norm = "l2" if config.attack in ("lbfgs", "carlini-wagner") else config.norm
    return [Bound(norm, math.inf if epsilon is None else epsilon) for epsilon in config.tried]
