"""What single units and directions stand for: their best patches, facets, importance, neighbours."""
