"""What the commands print: a line at a time, which never fails on its letters and never drives the terminal.

`say` prints an answer or an error. `note` tells what a command does and is silenced by -q; `detail` is for --verbose.
"""

import io
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from gcfsr_arch.errors import GCFSRError

QUIET, NORMAL, VERBOSE = range(3)
_level = NORMAL


class StreamError(GCFSRError):
    """Nothing can be printed any more: the fault of no single input."""


def prepare() -> None:
    """Makes the standard streams escape characters that they cannot encode instead of raising.

    Raises:
        GCFSRError: standard output is closed.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (as long as the process)
    if sys.stdout is None:
        raise GCFSRError("standard output is closed; send it to a file or to /dev/null")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def set_level(quiet: bool = False, verbose: bool = False) -> None:
    """How much `note` and `detail` print from now on."""
    global _level
    _level = QUIET if quiet else VERBOSE if verbose else NORMAL


def is_quiet() -> bool:
    """Whether no progress is to be shown."""
    return _level == QUIET


def note(line: str, error: bool = False, end: str = "\n") -> None:
    """`say`, unless the command was called with -q."""
    if _level > QUIET:
        say(line, error, end)


def detail(line: str) -> None:
    """`say` to standard error where the command was called with --verbose."""
    if _level == VERBOSE:
        say(line, error=True)


def say(line: str = "", error: bool = False, end: str = "\n") -> None:
    """Prints a line to standard output, or to standard error.

    Args:
        line: its control characters, newlines among them, are printed escaped (see `printable`).
        error: to standard error.
        end: text after it, not escaped.

    Raises:
        StreamError: it cannot be written (a full disk).
        BrokenPipeError: the reader has closed the pipe.
    """
    stream = sys.stderr if error else sys.stdout
    with _writing(stream):
        print(printable(line), file=stream, end=end, flush=True)


def send(data: bytes) -> None:
    """Writes bytes to standard output. Raises as `say`."""
    with _writing(sys.stdout):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def say_text(text: str, error: bool = False) -> None:
    """`say` for each line of a text."""
    for line in text.splitlines():
        say(line, error)


def printable(text: str) -> str:
    r"""The text with each character that is not for display escaped: `\n`, `\x1b`, `\u202e`, a stray byte as `\xff`."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def unexpected_error(error: Exception, debug: bool) -> str:
    """The line for an error that is not a `GCFSRError`; prints its traceback to standard error on request."""
    if debug:
        for line in "".join(traceback.format_exception(error)).splitlines():
            say(line, error=True)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:  # a name that is too long, ...
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return f"unexpected {type(error).__name__}: {error}{'' if debug else ' (--debug prints the traceback)'}"


def leave_quietly() -> int:
    """Flushes standard output for the last time, so that Python does not fail at it; returns the exit status."""
    try:
        with _writing(sys.stdout):
            sys.stdout.flush()
    except BrokenPipeError:
        return 1
    except StreamError as error:
        say(f"gcfsr: error: {error}", error=True)
        return 2
    return 0


@contextmanager
def _writing(stream: TextIO) -> Iterator[None]:
    """Turns a fault of a stream into a StreamError; what is still in its buffer goes nowhere."""
    try:
        yield
    except OSError as fault:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if isinstance(fault, BrokenPipeError):
            raise
        name = "standard error" if stream is sys.stderr else "standard output"
        raise StreamError(f"{name}: {fault.strerror or fault}") from fault


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # a byte of a file name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def counted(number: int, one: str, many: str = "") -> str:
    """A number and its noun: `1 face`, `2 faces`, `no faces`."""
    return f"{number or 'no'} {one if number == 1 else many or one + 's'}"
