"""Settings of `cnnvis occlude`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from cnnvis_cli.config.base import NetworkConfig, Text, TextList, collection_name


class OccludeConfig(NetworkConfig):
    """Cover one window of a picture after the other and see what the network makes of it."""

    told: ClassVar[tuple[str, ...]] = ("model", "image", "target")

    image: TextList = Field(("sample:motorcycle",), description="files, globs, folders or sample:NAME, separated by commas")
    target: Text = Field("predicted", description="predicted, a class's name or index, or an objective: channel:conv4_1:7")
    measure: Literal["probability", "logit"] = Field("probability", description="what of a class must fall")
    window: int | None = Field(None, ge=1, description="side in pixels of what the network sees; default: a seventh of it")
    stride: int | None = Field(None, ge=1, description="pixels between windows, at most `window`; default: a quarter of it")
    fill: Text = Field(
        "mean", description="mean (of the training pictures), grey, blur, noise, zero, or a colour: red, or 1,0.5,0"
    )
    evaluation: Literal["auto", "boxes", "plain"] = Field(
        "auto", description="boxes: recompute only what a window can change; plain: everything; auto: boxes where it pays"
    )
    check: int = Field(2, ge=0, description="so many windows are evaluated the plain way too, and the difference reported")
    batch: int = Field(64, ge=1, description="windows at once")
    size: int | None = Field(None, ge=8, le=4096, description="short side that the network sees; default: its own")
    crop: bool = Field(False, description="only the centre square, as classifiers are evaluated")
    score: bool = Field(True, description="deletion and insertion AUC, also of the map shifted, mirrored, and of a blob")
    raw: bool = Field(False, description="write the map's numbers as .npy (one picture)")

    @model_validator(mode="after")
    def _fitting(self) -> OccludeConfig:
        if self.window and self.stride and self.stride > self.window:
            raise ValueError(f"stride {self.stride} is larger than window {self.window}: pixels between would never be covered")
        return self

    def words(self) -> list[str]:
        target = [] if self.target == "predicted" else [self.target]
        return [self.model, collection_name(self.image), *target]
