"""Settings of `cnnvis patches`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cnnvis_cli.config.base import NetworkConfig, Text, TextList, collection_name


class PatchesConfig(NetworkConfig):
    """The patches of many pictures that excite each unit most (maximally activating patches)."""

    told: ClassVar[tuple[str, ...]] = ("model", "images", "layer", "channel")

    images: TextList = Field(("sample:caltech",), description="folders, globs, files or samples, separated by commas")
    layer: Text = Field("", description="a layer; the middle one of those with maps if empty")
    channel: Text = Field("0-7", description="which units, a row each: 7, '1,5,9' or 0-63")
    count: int = Field(9, ge=1, le=100, description="patches per unit, at most one per picture")
    crop: bool = Field(False, description="search only the centre squares, as classifiers are evaluated, not whole pictures")
    slopes: bool = Field(True, description="under each patch which of its pixels move the unit: guided backprop")
    batch: int = Field(32, ge=1, description="pictures at once")

    def words(self) -> list[str]:
        return [self.model, collection_name(self.images), *filter(None, [self.layer]), self.channel]
