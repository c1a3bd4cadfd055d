"""stdout and stderr as they may be: closed, full, without a reader, or in a locale that lacks a name's letters."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

from cnnvis_cli.errors import RunError

STDOUT, STDERR = 1, 2


class _Stream(io.RawIOBase):
    """One of the two, by its number. What stderr does not take is lost; what stdout does not take is an error."""

    def __init__(self, number: int) -> None:
        self.number = number

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.number

    def isatty(self) -> bool:
        return os.isatty(self.number)

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]  # a buffer, by the protocol
        try:
            return os.write(self.number, view)
        except BrokenPipeError:
            if self.number == STDOUT:
                raise
        except OSError as error:
            if self.number == STDOUT:
                silence_stdout()
                raise RunError(
                    f"stdout: {error.strerror}. What was computed is saved; its paths could not be printed"
                ) from None
        return view.nbytes


def _open(number: int, encoding: str, errors: str) -> TextIO:
    return io.TextIOWrapper(io.BufferedWriter(_Stream(number)), encoding, errors, line_buffering=True, write_through=True)


def open_streams() -> None:
    """Make both usable; paths go to stdout as the file system has them, whatever the locale.

    A closed one is opened on the null device: else the first file opened would get its number, and what is printed.
    """
    for number in (0, STDOUT, STDERR):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    if sys.stdout is sys.__stdout__:
        sys.stdout = _open(STDOUT, sys.getfilesystemencoding(), "surrogateescape")
    if sys.stderr is sys.__stderr__:
        sys.stderr = _open(STDERR, getattr(sys.stderr, "encoding", None) or "utf-8", "backslashreplace")


def silence_stdout() -> None:
    """From here on stdout takes everything and shows nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
