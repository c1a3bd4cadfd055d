"""From the shell to a job's result: as it lies there, or made now. Imports torch only where there is something to do."""

from __future__ import annotations

from pathlib import Path

from cnnvis_cli.config.base import CommandConfig
from cnnvis_cli.jobs.check import check_bundled_classes, check_device, check_files
from cnnvis_cli.jobs.kept import kept_record
from cnnvis_cli.jobs.report import Ran


def run_or_keep(
    command: str,
    config: CommandConfig,
    folder: Path,
    *,
    device: str,
    overwrite: bool,
    began: float | None = None,
    **flags: bool,
) -> Ran:
    """The job's result: as it lies there, or made now, which is when torch is imported. `began`, `flags`: as for
    `make_session`."""
    old = kept_record(command, config, folder, overwrite=overwrite)
    if old is not None:
        return Ran(old, folder, fresh=False)
    check_files(config)
    check_bundled_classes(config)
    check_device(device)
    from cnnvis_cli.jobs.run import run_alone
    from cnnvis_cli.jobs.session import make_session

    return run_alone(command, config, folder, make_session(device, overwrite=overwrite, began=began, **flags))
