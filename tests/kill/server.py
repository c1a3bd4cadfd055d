"""A process that has imported all, and forks a child for each command: a run costs what it computes.

Reads lines of JSON (`arguments`, `cwd`) from stdin, answers `pid N`, and later `ended N CODE`, on stdout.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading


def child(task: dict[str, object]) -> None:
    os.setsid()
    os.chdir(str(task["cwd"]))
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["cnnvis", *map(str, task["arguments"])]  # type: ignore[call-overload]
    from cnnvis_cli.__main__ import main

    code = 1
    try:
        main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    import torch

    from cnnvis_cli.registry import COMMANDS, command_module

    torch.set_num_threads(1)  # a pool of threads would not be there after the fork
    for command in COMMANDS:
        command_module(command)
    for module in ("cnnvis_cli.cli.app", "cnnvis_cli.jobs.run", "cnnvis_cli.batch.run", "cnnvis_cli.jobs.report"):
        importlib.import_module(module)
    print("ready", flush=True)
    lock = threading.Lock()

    def tell(line: str) -> None:
        with lock:
            print(line, flush=True)

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            child(json.loads(line))
        tell(f"pid {pid}")
        _, status = os.waitpid(pid, 0)
        tell(f"ended {pid} {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    serve()
