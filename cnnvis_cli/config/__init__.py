"""Typed configs, one file per command, and the one way in which YAML, `key=value` and the environment become them."""
