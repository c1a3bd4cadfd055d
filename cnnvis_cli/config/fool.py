"""Settings of `cnnvis fool`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from cnnvis_cli.config.base import NetworkConfig, Text, TextList, stem
from cnnvis_cli.config.conditions import Condition, only_with, other_than

Attack = Literal[
    "ascent", "fgsm", "ifgsm", "pgd", "momentum", "lbfgs", "deepfool", "carlini-wagner", "square", "universal", "autoattack"
]
# Attacks that look for the smallest change: without epsilon they have no budget.
UNBOUNDED = ("ascent", "lbfgs", "deepfool", "carlini-wagner")
# Attacks that go on until the network is sure (`confidence`).
UNTIL_SURE = ("ascent", "ifgsm", "pgd", "momentum")
# Budgets of a short search for the least one that fools.
_LINF, _L2 = ("1/255", "2/255", "3/255", "4/255", "6/255", "8/255"), (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
LOSSY = (".jpg", ".jpeg", ".webp", ".gif")


def fraction(value: Any) -> Any:
    """`4/255` is a number, with the 7 digits that the JSON beside a result keeps, so that this repeats the run."""
    if isinstance(value, str) and "/" in value:
        above, _, below = value.partition("/")
        try:
            return float(f"{float(above) / float(below):.7g}")
        except (ValueError, ZeroDivisionError):
            return value
    return value


def fractions(value: Any) -> Any:
    """`1/255,2/255` is a list of numbers."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    return [fraction(part.strip() if isinstance(part, str) else part) for part in parts if part != ""]


Fraction = Annotated[float, BeforeValidator(fraction)]
FractionList = Annotated[tuple[float, ...], BeforeValidator(fractions)]


class FoolConfig(NetworkConfig):
    """Change pictures so little that one hardly sees it, and so that the network answers something else.

    What counts is the saved 8-bit PNG, read and judged again.
    """

    told: ClassVar[tuple[str, ...]] = ("model", "image", "attack", "target")

    belongs: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "steps": (other_than("attack", "fgsm", "square"),),
        "rate": (only_with("attack", *UNTIL_SURE, "carlini-wagner", "universal"),),
        "confidence": (only_with("attack", *UNTIL_SURE),),
        "restarts": (only_with("attack", "pgd"),),
        "momentum": (only_with("attack", "momentum"),),
        "loss": (only_with("attack", "fgsm", "ifgsm", "pgd", "momentum"),),
        "overshoot": (only_with("attack", "deepfool"),),
        "candidates": (only_with("attack", "deepfool"),),
        "kappa": (only_with("attack", "carlini-wagner"),),
        "searches": (only_with("attack", "carlini-wagner", "lbfgs"),),
        "constant": (only_with("attack", "carlini-wagner", "lbfgs"),),
        "queries": (only_with("attack", "square", "autoattack"),),
        "aims": (only_with("attack", "autoattack"),),
        "target": (other_than("attack", "autoattack"),),
        "check": (other_than("attack", "square", "universal", "autoattack"),),
    }

    image: TextList = Field(("sample:motorcycle",), description="files, globs, folders, sample:NAME, or noise")
    label: Text = Field(
        "",
        description="the true class; folder or file: what the picture's folder or file is called; empty: what the network says",
    )
    target: Text = Field("", description="a class, least-likely, random, or empty: anything else")
    attack: Attack = Field("pgd", description="how: see README")
    norm: Literal["linf", "l2"] = Field("linf", description="linf: largest change of a value; l2: length of the change")
    epsilon: Fraction | None = Field(
        None, gt=0, description="budget, for values from 0 to 1, e.g. 4/255; if empty the least of 1/255 to 8/255 (linf) or "
        "0.25 to 2 (l2) that fools (universal: the largest), and no bound for ascent, lbfgs, deepfool, carlini-wagner",
    )  # fmt: skip
    steps: int | None = Field(None, ge=1, description="gradient steps at most; the attack's own default if empty")
    rate: Fraction | None = Field(None, gt=0, description="step size; the attack's own default if empty")
    confidence: float = Field(
        0.5, ge=0, lt=1, description="go on until the network gives the wrong class this probability (ascent to pgd; 0: any)"
    )
    restarts: int = Field(1, ge=1, description="random starts of pgd")
    momentum: float = Field(1.0, ge=0, description="of attack=momentum")
    loss: Literal["cross-entropy", "score", "margin"] = Field("cross-entropy", description="what fgsm to pgd raise")
    overshoot: float = Field(0.02, ge=0, description="of deepfool")
    candidates: int = Field(10, ge=2, description="classes deepfool looks at")
    kappa: float = Field(0.0, ge=0, description="margin of logits that carlini-wagner asks for")
    searches: int = Field(6, ge=1, description="values of the constant that carlini-wagner and lbfgs try")
    constant: float = Field(0.1, gt=0, description="their first one")
    queries: int | None = Field(None, ge=1, description="what square may ask; 1000 if empty, of autoattack 5000")
    aims: int = Field(9, ge=1, le=1000, description="likeliest wrong classes that autoattack aims at")
    check: int = Field(100, ge=0, description="queries of a black-box check where a gradient attack failed (0: none)")
    size: int | None = Field(None, ge=8, le=4096, description="side in pixels; the network's own if empty")
    batch: int = Field(16, ge=1, description="pictures attacked at once")
    magnify: float | None = Field(None, gt=0, description="factor on the shown change; as fits if empty")
    budgets: FractionList = Field((), description="a curve of accuracy by these epsilons, e.g. 1/255,2/255,4/255,8/255")
    also: TextList = Field(
        (), description="these networks (MODEL or MODEL@WEIGHTS) too: a transfer matrix, and a line each in the curve"
    )

    @field_validator("name")
    @classmethod
    def _lossless(cls, value: str) -> str:
        if PurePath(value).suffix.lower() in LOSSY:
            raise ValueError("adversarial pictures are saved as PNG only: a lossy format would change what was judged")
        return value

    @field_validator("budgets")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(epsilon < 0 for epsilon in value):
            raise ValueError("budgets are not negative")
        return tuple(sorted({0.0, *value})) if value else value

    @model_validator(mode="after")
    def _fitting(self) -> FoolConfig:
        for epsilon in (*self.budgets, *([self.epsilon] if self.epsilon is not None else [])):
            if self.norm == "linf" and epsilon > 1:
                raise ValueError(f"epsilon {epsilon:g} is more than any value can change; write {epsilon:g}/255 for levels")
            if self.norm == "linf" and 0 < epsilon < 1 / 255 - 1e-9:
                raise ValueError(f"epsilon {epsilon:g} is less than one level (1/255): no 8-bit picture is that close")
        if self.target and self.attack == "deepfool":
            raise ValueError("deepfool goes to the nearest other class and takes no target; carlini-wagner and lbfgs do")
        if self.attack in ("lbfgs", "carlini-wagner") and self.norm == "linf" and self.epsilon is not None:
            raise ValueError(f"{self.attack} measures in l2: use norm=l2 with epsilon")
        return self

    @property
    def asks(self) -> int:
        """What a black box may ask."""
        return self.queries or (5000 if self.attack == "autoattack" else 1000)

    @property
    def tried(self) -> tuple[float | None, ...]:
        """The epsilons that are tried, rising, until one fools; None for no bound."""
        if self.budget is None or self.epsilon is not None or self.attack in ("universal", "autoattack"):
            return (self.budget,)
        return tuple(map(fraction, _LINF)) if self.norm == "linf" else _L2

    @property
    def budget(self) -> float | None:
        """Epsilon, or the largest that is tried; None for no bound."""
        if self.epsilon is not None or self.attack in UNBOUNDED:
            return self.epsilon
        return fraction(_LINF[-1]) if self.norm == "linf" else _L2[-1]

    def words(self) -> list[str]:
        what = (stem(self.image[0]) or "pictures") if len(self.image) == 1 else f"{len(self.image)}-pictures"
        return [self.model, what, self.attack, *filter(None, [self.target])]
