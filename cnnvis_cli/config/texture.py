"""Settings of `cnnvis texture`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from cnnvis_cli.config.base import Text, stem
from cnnvis_cli.config.conditions import Condition, only_with
from cnnvis_cli.config.statistics import OF_STATISTICS, WITHOUT_BUDGET, StatisticsConfig


def _width_height(value: Any) -> Any:
    """`1024x512` or `512` as (width, height)."""
    if isinstance(value, list | tuple):
        return value
    found = re.fullmatch(r"([0-9]{1,9})(?:\s*[x×]\s*([0-9]{1,9}))?", str(value).strip())
    if found is None:
        raise ValueError("a size is WIDTHxHEIGHT or one number")
    return int(found[1]), int(found[2] or found[1])


Side = Annotated[int, Field(ge=32, le=16384)]


class TextureConfig(StatisticsConfig):
    """More of a texture, of any size (Gatys, Ecker, Bethge 2015; Efros and Leung 1999; Efros and Freeman 2001)."""

    told: ClassVar[tuple[str, ...]] = ("model", "method", "exemplar", "size")

    belongs: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        **{key: (only_with("method", "statistics"),) for key in (*OF_STATISTICS, "strip")},
        "steps": (only_with("method", "statistics"), WITHOUT_BUDGET),
        "bleed": (only_with("method", "statistics"), only_with("tileable", False)),
        "window": (only_with("method", "patches"),),
        "block": (only_with("method", "quilting"),),
        "nearest": (only_with("method", "patches", "quilting"),),
    }

    exemplar: Text = Field("sample:gravel", description="a picture of the texture (file or sample:NAME)")
    exemplar_size: int | None = Field(
        256, ge=16, le=8192, description="the long side it is brought to first; not given: as it is"
    )
    size: Annotated[tuple[Side, Side], BeforeValidator(_width_height)] = Field(
        (256, 256), description="WIDTHxHEIGHT of the result, or one number"
    )
    tileable: bool = Field(False, description="the opposite sides fit: it can be laid side by side")
    method: Literal["statistics", "patches", "quilting"] = Field(
        "statistics", description="patches: grown pixel by pixel (Efros-Leung); quilting: blocks with cuts (Efros-Freeman)"
    )
    strip: bool = Field(False, description="a sheet of the texture by the first style layer, the first two, and so on")
    window: int = Field(11, ge=3, le=63, description="patches: side of the neighbourhoods, odd")
    block: int = Field(24, ge=6, le=256, description="quilting: side of the blocks")
    nearest: int = Field(8, ge=1, description="patches, quilting: one of so many best fits is drawn")
    steps: int = Field(60, ge=1, description="updates at each scale")
    smallest: int = Field(64, ge=16, description="long side of the first scale; each next is sqrt(2) larger")

    @model_validator(mode="after")
    def _fitting(self) -> TextureConfig:
        if self.style_layers:
            self.check_counts("layer_weights", self.layer_weights, len(self.style_layers), "style_layers")
        if self.window % 2 == 0:
            raise ValueError(f"window: {self.window} has no centre; take {self.window + 1}")
        return self

    def words(self) -> list[str]:
        how = self.model if self.method == "statistics" else self.method
        return [how, stem(self.exemplar), f"{self.size[0]}x{self.size[1]}"]
