"""The exception for all user errors; stdlib only, so every module may import it."""


class GCFSRError(ValueError):
    """A fault in what the user passed: one line naming the file, key or shape and what to do.

    The `gcfsr` commands print it without a traceback and exit with status 2.
    """


def first_line(error: BaseException) -> str:
    """The first line of another library's error, for a message of ours; its type's name where it has no words."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
