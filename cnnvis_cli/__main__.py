"""`cnnvis`, and `python -m cnnvis_cli`: the way in, which answers Ctrl-C from its first line on."""

import signal
from typing import Any

from cnnvis_cli.cli.leave import leave


def main() -> Any:
    """The entry point of the shell command."""
    signal.signal(signal.SIGINT, leave)
    from cnnvis_cli.cli.app import main as run

    return run()


if __name__ == "__main__":
    main()
