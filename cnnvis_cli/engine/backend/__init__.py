"""Faster arithmetic of the same numbers, by oneDNN and glibc. May be deleted: `engine.arithmetic` then gives way."""
