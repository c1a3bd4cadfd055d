"""Settings of `cnnvis embed`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from cnnvis_cli.config.base import CollectionConfig, collection_name
from cnnvis_cli.config.conditions import Condition, only_with


class EmbedConfig(CollectionConfig):
    """A layer's features of many pictures in the plane, by PCA and t-SNE."""

    told: ClassVar[tuple[str, ...]] = ("model", "images", "layer")
    belongs: ClassVar[Mapping[str, tuple[Condition, ...]]] = dict.fromkeys(
        ("cells", "places", "steps"), (only_with("atlas", True),)
    )

    perplexity: float = Field(30.0, gt=1, description="of t-SNE: about how many neighbours count; less for few pictures")
    colors: Literal["auto", "folder", "predicted"] = Field(
        "auto", description="what a point's colour stands for; auto: its folder where folders are classes, else the prediction"
    )
    thumbnail: int | None = Field(
        None, ge=8, le=256, description="side of a picture on the map, in pixels; the more pictures the smaller if not given"
    )
    arrange: Literal["places", "grid"] = Field("places", description="thumbnails lie where their points are, or on a grid")
    atlas: bool = Field(False, description="draw what each region of the layer's activations stands for (Carter 2019)")
    cells: int = Field(12, ge=2, le=64, description="of the atlas, along a side")
    places: int = Field(8, ge=1, le=1024, description="random places of each picture that go into the atlas")
    steps: int = Field(64, ge=1, description="updates of the atlas's tiles")

    def words(self) -> list[str]:
        return [self.model, collection_name(self.images), *filter(None, [self.layer])]
