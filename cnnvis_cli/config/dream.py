"""Settings of `cnnvis dream`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from cnnvis_cli.config.base import NetworkConfig, Text, TextList, spelled_out, stem
from cnnvis_cli.config.conditions import Condition, above, given


class DreamConfig(NetworkConfig):
    """Raise what a layer, a channel, a neuron, a class or a sum of them sees in a picture, over octaves."""

    told: ClassVar[tuple[str, ...]] = ("model", "image", "objective", "layers", "guide")

    belongs: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "objective": (Condition("layers", ((),), words="one dream, without layers"),),
        "scale": (above("octaves", 1),),
        "smallest": (above("octaves", 1),),
        **{key: (above("zoom"),) for key in ("zoom_factor", "zoom_steps", "video")},
        "columns": (given("layers"),),
    }

    image: Text = Field("sample:coffee", description="picture to dream on: a file, sample:NAME, or noise")
    objective: Text = Field(
        "",
        description="what to raise, as in maximize, sums too; layer=NAME is short for layer:NAME; relu4_1 or its like if empty",
    )
    layers: TextList = Field((), description="instead: these layers, one picture each on a sheet; all: every one")
    guide: Text = Field("", description="picture whose features the objective's layers are to find (file or sample:NAME)")
    size: int = Field(512, ge=0, le=16384, description="longer side in pixels; 0: the picture's own")
    octaves: int = Field(4, ge=1, le=20, description="sizes to dream at, the last being the picture's own")
    scale: float = Field(1.4, gt=1, le=4, description="factor between two octaves")
    smallest: int = Field(64, ge=8, description="no octave below this short side")
    steps: int = Field(10, ge=1, description="updates per octave")
    rate: float = Field(0.012, gt=0, description="mean change of a value in [0, 1] per update")
    jitter: int = Field(32, ge=0, le=16384, description="random shift per update in pixels")
    smooth: float = Field(1.0, ge=0, description="finest blur of the gradient in pixels; 0: none")
    tile: int = Field(512, ge=64, description="pictures with a longer side than twice this are evaluated in tiles of this side")
    zoom: int = Field(0, ge=0, le=2000, description="so many frames of a way into the picture")
    zoom_factor: float = Field(1.04, gt=1, le=2, description="enlargement per frame")
    zoom_steps: int = Field(4, ge=1, description="updates per frame")
    video: Literal["auto", "gif", "mp4"] = Field("auto", description="of zoom; auto: MP4 with the video extra, else GIF")
    columns: int | None = Field(None, ge=1, description="columns of a sheet")

    @field_validator("objective", mode="before")
    @classmethod
    def _joined(cls, value: Any) -> Any:
        return " + ".join(map(str, value)) if isinstance(value, list | tuple) else value

    @model_validator(mode="before")
    @classmethod
    def _one_layer(cls, values: Any) -> Any:
        return spelled_out(values, "layer", "objective", "layer:{}", ("objective", "layers"))

    @model_validator(mode="after")
    def _fitting(self) -> DreamConfig:
        if self.zoom and self.layers:
            raise ValueError("zoom goes into one dream; layers makes a sheet of several. Give one of them")
        if self.size and self.jitter > self.size and self.jitter != type(self).model_fields["jitter"].default:
            raise ValueError(f"jitter {self.jitter} shifts by more than the picture's side of {self.size}: take less")
        if self.size and self.smallest > self.size and self.smallest != type(self).model_fields["smallest"].default:
            raise ValueError(f"smallest {self.smallest} is more than the size of {self.size}: there would be no other octave")
        return self

    def words(self) -> list[str]:
        guide = [f"guide-{stem(self.guide)}"] if self.guide else []
        asked = "-".join(self.layers) or self.objective
        return [self.model, stem(self.image), *([asked] if asked else []), *guide]
