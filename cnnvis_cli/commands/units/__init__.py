"""Single units and directions of a layer: what pages about them share."""
