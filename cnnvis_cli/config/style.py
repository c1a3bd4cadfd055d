"""Settings of `cnnvis style`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from cnnvis_cli.config.base import NetworkConfig, NumberList, Text, TextList, stem
from cnnvis_cli.config.conditions import Condition
from cnnvis_cli.config.problems import wanted
from cnnvis_cli.config.statistics import OF_STATISTICS, WITHOUT_BUDGET, StatisticsConfig

_MOST_CELLS = 400
DEFAULT_STYLIZER = "paintings"  # for method=feedforward
# Methods that give codes another picture's statistics in closed form, and make a picture of them with a decoder.
TRANSFERS = ("adain", "wct", "transport", "histogram")
_OPTIMIZED = Condition(
    "optimizes",
    (True,),
    words="the optimizer; start=stylizer lets it go on from the pass",
    instead="in one pass",
)
_IN_A_PASS = Condition("in_one_pass", (True,), words="a stylizer's pass, stylizer=...", instead="where there is none")
_TRANSFERRED = Condition(
    "transfers", (True,), words=f"method={', '.join(TRANSFERS[:-1])} or {TRANSFERS[-1]}", instead="without"
)
_WITH_STYLIZER = Condition("only_transfers", (False,), words="the optimizer and method=feedforward", instead="with a decoder")

# Of one network, and of one result: no axes of a grid.
_NOT_SPANNED = {"grid", "name", *NetworkConfig.model_fields} - {"seed"}


class StyleConfig(StatisticsConfig):
    """The content of one picture in the style of others (Gatys, Ecker, Bethge 2015)."""

    told: ClassVar[tuple[str, ...]] = ("model", "content", "style", "method", "stylizer", "grid")

    belongs: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        **dict.fromkeys((*OF_STATISTICS, "content_layers", "content_weights", "start", "grid"), (_OPTIMIZED,)),
        "steps": (_OPTIMIZED, WITHOUT_BUDGET),
        "steady": (_IN_A_PASS,),
        "stylizer": (_WITH_STYLIZER,),
        **dict.fromkeys(("decoder", "levels", "rounds"), (_TRANSFERRED,)),
    }

    content: Text = Field("sample:chelsea", description="the picture that stays recognizable (file or sample:NAME)")
    style: TextList = Field(
        ("sample:flower",), min_length=1, description="the picture(s) whose style is taken, separated by commas"
    )
    style_shares: NumberList = Field((), description="weight of each style in the mean of their statistics; equal if empty")
    masks: TextList = Field((), description="a grey picture per style, as large as the content: white where that style goes")
    style_scale: float = Field(1.0, gt=0, le=8, description="size of strokes: the style's long side over the result's")
    strength: float = Field(0.5, ge=0, le=1, description="0: the content alone, 1: the style alone")
    content_layers: TextList = Field((), description="layers whose maps are kept; relu4_1 or its like if empty")
    content_weights: NumberList = Field((), description="their weights; equal if empty")
    colors: Literal["style", "content", "histogram"] = Field(
        "style", description="content: the content's chroma; histogram: the style recoloured like the content first"
    )
    parameterization: Literal["fourier", "pixels"] = Field(
        "fourier",
        description="what lbfgs changes; fourier: strokes come before grain (Olah et al. 2017); adam changes pixels",
    )
    tv: float = Field(2.0, ge=0, description="weight of the total variation: less leaves coloured grain in smooth areas")
    start: Text = Field("content", description="content, noise, style, stylizer (its pass), or a picture (file or sample:NAME)")
    method: Literal["optimize", "feedforward", "adain", "wct", "transport", "histogram"] = Field(
        "optimize",
        description="optimize: pixels; feedforward: a stylizer's pass; else a decoder's pass, in any style",
    )
    decoder: Text = Field("", description="a file of `cnnvis train kind=decoder`; the bundled one for the model if empty")
    levels: TextList = Field(
        (), description="the decoder's layers at which statistics are exchanged; all but the deepest if empty"
    )
    rounds: int = Field(1, ge=1, le=8, description="passes of the decoder, each over what the one before made")
    stylizer: Text = Field(
        "",
        description="paint in one pass: paintings, painter, or a file of `cnnvis train`; `style` names its styles (the first)",
    )
    steady: float = Field(
        0.8, ge=0, lt=1, description="how much of a film's statistics each frame of a pass keeps from those before"
    )
    size: int | None = Field(None, ge=32, le=16384, description="long side in pixels; 256, or what fits the budget")
    grid: dict[str, list[Any]] | Literal["", "paper"] = Field(
        "", description="two keys with lists of values: rows and columns of a sheet; 'paper': layers by strength as in Gatys"
    )

    @field_validator("grid")
    @classmethod
    def _two_axes(cls, grid: Any) -> Any:
        if isinstance(grid, Mapping):
            unknown = [key for key in grid if key not in cls.model_fields or key in _NOT_SPANNED]
            if unknown:
                one = " (a grid is of one network)" if set(unknown) & NetworkConfig.model_fields.keys() else ""
                raise ValueError(f"no key {', '.join(map(repr, unknown))} to span a grid with{one}")
            if not 1 <= len(grid) <= 2 or not all(grid.values()):
                raise ValueError("a grid has one or two keys, each with a list of values")
            if math.prod(map(len, grid.values())) > _MOST_CELLS:
                raise ValueError(f"a grid has at most {_MOST_CELLS} cells")
        return grid

    @model_validator(mode="after")
    def _fitting(self) -> StyleConfig:
        self.check_counts("style_shares", self.style_shares, len(self.style), "styles")
        self.check_counts("masks", self.masks, len(self.style), "styles")
        if self.style_layers:
            self.check_counts("layer_weights", self.layer_weights, len(self.style_layers), "style_layers")
        if self.content_layers:
            self.check_counts("content_weights", self.content_weights, len(self.content_layers), "content_layers")
        self._check_pass()
        spanned = self.grid if isinstance(self.grid, Mapping) else ("strength",) if self.grid == "paper" else ()
        for key in spanned:
            if key != "style_layers" and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} has no effect beside a grid that spans it: leave one of them away")
        for change in cells(self.grid) if isinstance(self.grid, Mapping) else []:
            try:
                self.changed(change)
            except ValidationError as error:
                said = wanted(error.errors()[0])
                where = ", ".join(f"{key}={value}" for key, value in change.items())
                raise ValueError(f"grid: {where}: {said}") from None
        return self

    @property
    def in_one_pass(self) -> bool:
        """Whether a stylizer makes the picture, and not the optimizer."""
        return self.method == "feedforward" or (self.method == "optimize" and bool(self.stylizer) and self.start != "stylizer")

    @property
    def _methods(self) -> set[str]:
        """The methods of a grid; empty where it does not compare them."""
        return set(map(str, self.grid.get("method", ()))) if isinstance(self.grid, Mapping) else set()

    @property
    def transfers(self) -> bool:
        """Whether a decoder makes the picture (or one of a grid's) of codes with the style's statistics."""
        return self.method in TRANSFERS or bool(self._methods & set(TRANSFERS))

    @property
    def only_transfers(self) -> bool:
        return self.method in TRANSFERS and not self._methods

    @property
    def optimizes(self) -> bool:
        """Whether the optimizer makes the picture, or one of a grid's."""
        return bool(self._methods) or not (self.in_one_pass or self.method in TRANSFERS)

    def _check_pass(self) -> None:
        if self.start == "stylizer" and not self.stylizer:
            raise ValueError("start=stylizer: name it, stylizer=paintings or a file")
        if not self.in_one_pass or self._methods:
            return
        if self.colors == "histogram":
            raise ValueError(
                "colors=histogram recolours the style first, and a stylizer has its style in its weights; content works"
            )

    def changed(self, change: Mapping[str, Any]) -> StyleConfig:
        """The config of one cell of a grid. What belongs to other cells' methods is left out of it."""
        values = self.model_dump() | {"grid": ""} | dict(change)
        if "method" in change:
            if change["method"] == "optimize" and values["start"] != "stylizer":
                values["stylizer"] = ""  # it is for the pass beside
            like = self.model_copy(update=values)
            for key, conditions in self.belongs.items():
                if key not in change and not all(condition.holds(like) for condition in conditions):
                    del values[key]
        return type(self).model_validate(values)

    def words(self) -> list[str]:
        styles, content = "+".join(map(stem, self.style)), stem(self.content)
        if self.grid:
            return self._words_of_grid(content, styles)
        if self.method in TRANSFERS:
            return [self.method, content, styles]
        if self.in_one_pass:
            return [stem(self.stylizer or DEFAULT_STYLIZER), content, *([] if self._own_style else [styles])]
        return [self.model, content, styles]

    @property
    def _own_style(self) -> bool:
        """Whether no style is named, so that a stylizer paints its own."""
        return self.style == type(self).model_fields["style"].default

    def _words_of_grid(self, content: str, styles: str) -> list[str]:
        """What is the same in all cells."""
        spanned = self.grid if isinstance(self.grid, Mapping) else {}
        by_stylizers = self._own_style and (self.in_one_pass or "stylizer" in spanned)
        shown = [self.model, *([] if "content" in spanned else [content])]
        return [*shown, *([] if "style" in spanned or by_stylizers else [styles]), "-".join(["grid", *spanned])]


def cells(grid: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """What each cell of a grid changes, row by row: the last key varies along the rows."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
