"""A unit sees a bounded window of the picture: receptive fields, traces, incremental evaluation, tiles."""
