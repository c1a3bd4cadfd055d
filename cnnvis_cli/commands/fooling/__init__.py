"""Attacks on pictures: what `fool` attacks, with what, and the figures that compare."""
