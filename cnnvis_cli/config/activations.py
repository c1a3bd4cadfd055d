"""Settings of `cnnvis activations`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from cnnvis_cli.config.base import NetworkConfig, Text, stem
from cnnvis_cli.config.conditions import Condition, only_with


class ActivationsConfig(NetworkConfig):
    """What a layer's units answer to one picture, as maps."""

    told: ClassVar[tuple[str, ...]] = ("model", "image", "layer")
    belongs: ClassVar[Mapping[str, tuple[Condition, ...]]] = {
        "cells": (only_with("grid", True),),
        "steps": (only_with("grid", True),),
    }

    image: Text = Field("sample:chelsea", description="a picture: file or sample:NAME")
    layer: Text = Field("", description="a layer with maps; the middle one of them if empty")
    channel: Text = Field("", description="which units: 7, '1,5,9' or 0-63; the strongest if empty")
    count: int = Field(48, ge=1, description="how many of the strongest")
    scale: Literal["each", "all"] = Field("each", description="each map fills the range, or all share one")
    mark: int = Field(6, ge=0, description="how many of the strongest are framed and laid over the picture")
    size: int | None = Field(None, ge=8, le=4096, description="short side that the network sees; default: its own")
    columns: int | None = Field(None, ge=1, description="columns of the sheet")
    rectified: bool = Field(True, description="show what the rectifier behind the layer lets through, where there is one")
    grid: bool = Field(False, description="draw each place of the picture as what its activations stand for (Olah 2018)")
    cells: int = Field(8, ge=1, le=64, description="places of the grid along the longer side, at most")
    steps: int = Field(64, ge=1, description="updates of the grid's tiles")
    raw: bool = Field(False, description="write the maps as .npy")

    def words(self) -> list[str]:
        return [self.model, stem(self.image), *filter(None, [self.layer])]
