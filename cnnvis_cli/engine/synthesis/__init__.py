"""Dreams, inversion, style: what is particular to each beside the loop."""
