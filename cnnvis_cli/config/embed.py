"""Settings of `cnnvis embed`."""

from __future__ import annotations

from pydantic import Field

from cnnvis_cli.config.base import CollectionConfig, collection_name


class EmbedConfig(CollectionConfig):
    """A layer's features of many pictures in the plane, by PCA and t-SNE."""

    perplexity: float = Field(30.0, gt=1, description="of t-SNE: about how many neighbours count; less for few pictures")
    thumbnail: int = Field(40, ge=8, le=256, description="side of a picture on the map, in pixels")

    def slug(self) -> str:
        return f"{self.model}_{collection_name(self.images)}_{self.layer or 'features'}"
