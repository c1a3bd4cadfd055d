"""Settings of `cnnvis embed`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cnnvis_cli.config.base import CollectionConfig, collection_name


class EmbedConfig(CollectionConfig):
    """A layer's features of many pictures in the plane, by PCA and t-SNE."""

    told: ClassVar[tuple[str, ...]] = ("model", "images", "layer")

    perplexity: float = Field(30.0, gt=1, description="of t-SNE: about how many neighbours count; less for few pictures")
    thumbnail: int = Field(40, ge=8, le=256, description="side of a picture on the map, in pixels")

    def words(self) -> list[str]:
        return [self.model, collection_name(self.images), *filter(None, [self.layer])]
