"""Whether a job's result is there already. Imports no torch, so that a kept result answers at once."""

from __future__ import annotations

import sys
from pathlib import Path

from cnnvis_cli.config.base import MOST_NAME_BYTES, CommandConfig
from cnnvis_cli.errors import UserError
from cnnvis_cli.jobs.fresh import outdated
from cnnvis_cli.jobs.record import Record, config_hash, difference, read_record, safe_name


def result_name(config: CommandConfig) -> str:
    """The file name of a config's result, without suffix."""
    return safe_name(config.name, MOST_NAME_BYTES) if config.name else safe_name(config.slug())


def kept_record(command: str, config: CommandConfig, folder: Path, *, overwrite: bool = False) -> Record | None:
    """The record of this very config where its result lies there whole, made of the same pictures and weights; None where the
    job is to be done, which is said where there was one.

    Raises UserError where a result of another config has the same name, unless `overwrite`.
    """
    path = folder / f"{result_name(config)}.json"
    if overwrite or (old := read_record(path)) is None:
        return None
    if old.config_hash != config_hash(command, config):
        differs = difference(old.config, config.model_dump(mode="json"))
        raise UserError(f"{path} is the result of another config ({differs}). Use --overwrite, name=... or --out DIR.")
    if (reason := outdated(old, folder)) is not None:
        print(f"{path} no longer holds: {reason}. It is made anew.", file=sys.stderr, flush=True)
        return None
    return old
