"""Settings of `cnnvis filters`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from cnnvis_cli.config.base import NetworkConfig, Text


class FiltersConfig(NetworkConfig):
    """The weights of a convolution as pictures: in colour where it reads colours, else grey, one per input channel."""

    told: ClassVar[tuple[str, ...]] = ("model", "layer")

    layer: Text = Field("", description="a convolution; the first if empty")
    channel: Text = Field("", description="which filters: 7, '1,5,9' or 0-63; all (of deeper layers the first 16) if empty")
    inputs: Text = Field("", description="which input channels of a deeper layer; the first 16 if empty")
    scale: Literal["each", "all"] = Field("each", description="each filter fills the range, or all share one")
    sort: Literal["none", "norm", "similar"] = Field(
        "none", description="as they are, strongest first, or each next to its like"
    )
    zoom: int | None = Field(None, ge=1, le=64, description="pixels per weight; tiles of about 48 pixels if not given")
    columns: int | None = Field(None, ge=1, description="columns of the sheet of coloured filters")
    raw: bool = Field(False, description="write the weights as .npy")

    def words(self) -> list[str]:
        return [self.model, self.layer or "first"]
