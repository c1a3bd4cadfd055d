"""Settings that `style` and `texture` share: which statistics of which layers, and how they are lowered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from cnnvis_cli.config.base import NetworkConfig, NumberList, TextList
from cnnvis_cli.config.conditions import Condition

# What only the optimizer of statistics reads.
OF_STATISTICS = (
    *("statistic", "style_layers", "layer_weights", "smooth", "pooling", "padding", "bleed", "tv", "update", "rate", "average"),
    *("parameterization", "steps", "smallest", "budget", "tile"),
)
WITHOUT_BUDGET = Condition("budget", (None,), words="runs without budget, which picks them", instead="beside a budget")

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def _seconds(value: Any) -> Any:
    """`90`, `90s`, `5m` or `1h` as seconds."""
    found = re.fullmatch(r"\s*([0-9.]+)\s*([a-z]*)\s*", str(value).lower())
    if value is None or value == "":
        return None
    if found is None or found[2] not in _UNITS:
        raise ValueError("a time is a number with s, m or h: 90s, 5m, 1h")
    return float(found[1]) * _UNITS[found[2]]


Duration = Annotated[float, BeforeValidator(_seconds)]


class StatisticsConfig(NetworkConfig):
    """What a loss of statistics needs, and the loop that lowers it."""

    statistic: Literal["wasserstein", "gram", "sliced"] = Field(
        "wasserstein", description="mean and covariance (Gaussian W2), Gram matrix (Gatys), or sliced Wasserstein"
    )
    style_layers: TextList = Field((), description="layers whose statistics count; relu1_1 to relu5_1 or their like if empty")
    layer_weights: NumberList = Field((), description="their weights; equal if empty")
    smooth: bool | None = Field(
        None,
        description="softmax of activations first (Wang et al. 2021); if not given on for pixels of ResNets and their like",
    )
    pooling: Literal["auto", "max", "average"] = Field(
        "auto", description="average: smoother gradients (Gatys); auto: where the network's pools overlap, else max"
    )
    padding: Literal["replicate", "reflect", "zeros"] = Field(
        "replicate", description="what convolutions see beyond the border; zeros draw a frame"
    )
    bleed: int = Field(16, ge=0, le=256, description="pixels that are made around the picture and cut off at the end")
    tv: float = Field(0.5, ge=0, description="weight of the total variation")
    update: Literal["auto", "lbfgs", "adam"] = Field(
        "auto", description="auto: lbfgs, but adam where every step sees something else (sliced) or in tiles"
    )
    parameterization: Literal["fourier", "pixels"] = Field(
        "pixels",
        description="what lbfgs changes; fourier: strokes come before grain (Olah et al. 2017); adam changes pixels",
    )
    rate: float | None = Field(None, gt=0, description="step size; 1 for lbfgs, 0.03 for adam")
    average: float = Field(
        0.9, ge=0, lt=1, description="decay of the mean of the pictures that becomes the result (0: the last)"
    )
    steps: int = Field(100, ge=1, description="updates at each scale")
    smallest: int = Field(128, ge=16, description="long side of the first scale; each next is sqrt(2) larger")
    budget: Duration | None = Field(
        None, description="time it may take in all, 90s or 5m: picks steps, and size if not given; ends by the clock"
    )
    tile: int | None = Field(
        None,
        ge=0,
        description="side of tiles in which large pictures are worked on, exactly; 0: never; when it is large if not given",
    )

    def check_counts(self, key: str, values: Sequence[Any], count: int, what: str) -> None:
        """One value each, and weights that make sense."""
        if values and len(values) != count:
            raise ValueError(f"{key}: {len(values)} values for {count} {what}")
        numbers = [value for value in values if isinstance(value, int | float)]
        if numbers and (min(numbers) < 0 or sum(numbers) == 0):
            raise ValueError(f"{key}: weights must not be negative and must not sum to 0")
