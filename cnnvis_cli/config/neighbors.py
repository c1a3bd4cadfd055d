"""Settings of `cnnvis neighbors`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from cnnvis_cli.config.base import CollectionConfig, TextList, collection_name


class NeighborsConfig(CollectionConfig):
    """Nearest neighbours in a layer's feature space beside those in pixel space."""

    told: ClassVar[tuple[str, ...]] = ("model", "images", "query", "layer", "metric")

    query: TextList = Field((), description="pictures to start from; some of `images`, of different classes, if empty")
    rows: int = Field(6, ge=1, le=100, description="how many of them are shown")
    metric: Literal["cosine", "l2"] = Field("cosine", description="distance, in feature space and in pixel space")
    count: int = Field(5, ge=1, le=50, description="neighbours per picture; the k of precision at k")

    def words(self) -> list[str]:
        start = [collection_name(self.query)] if self.query else []
        return [self.model, collection_name(self.images), *start, *filter(None, [self.layer]), self.metric]
