"""The exception for all user errors; stdlib only, so every module may import it."""

import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches


class GCFSRError(ValueError):
    """A fault in what the user passed: one line naming the file, key or shape and what to do.

    The `gcfsr` commands print it without a traceback and exit with status 2.
    """


def exit_status(program: Callable[[], int | None]) -> int:
    """Runs a program: prints a GCFSRError on one line of standard error and returns 2."""
    try:
        return program() or 0
    except GCFSRError as error:
        print(f"gcfsr: error: {error}", file=sys.stderr)
        return 2


def first_line(error: BaseException) -> str:
    """The first line of another library's error, for a message of ours; its type's name where it has no message."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def did_you_mean(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """What a message says after an unknown name: the nearest known one, else `otherwise`, by default all of them."""
    names = list(known)
    near = get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known ones are {', '.join(names)}" if otherwise is None else otherwise
