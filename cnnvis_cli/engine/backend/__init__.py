"""Faster arithmetic of the same numbers: may be deleted without changing one."""
