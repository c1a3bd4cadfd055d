"""Settings of `cnnvis embed`."""

from __future__ import annotations

from pydantic import Field

from cnnvis_cli.config.base import NetworkConfig, Text, TextList, collection_name


class EmbedConfig(NetworkConfig):
    """A layer's features of many pictures in the plane, by PCA and t-SNE (background texts 3 and 5)."""

    images: TextList = Field(("sample:*",), description="folders (each a class), globs, files or samples, separated by commas")
    layer: Text = Field("", description="whose features; what the classifier reads if empty. Maps are averaged over places")
    perplexity: float = Field(30.0, gt=1, description="of t-SNE: about how many neighbours count; less for few pictures")
    thumbnail: int = Field(40, ge=8, le=256, description="side of a picture on the map, in pixels")
    index: Text = Field("", description="folder of the features on disk; OUT/index if empty")
    batch: int = Field(32, ge=1, description="pictures at once")

    def slug(self) -> str:
        return f"{self.model}_{collection_name(self.images)}_{self.layer or 'features'}"
