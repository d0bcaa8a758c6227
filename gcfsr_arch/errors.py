"""The one exception for whatever a user passes wrong; stdlib only, so every room may import it."""


class GCFSRError(ValueError):
    """A fault in what the user passed: one line naming the file, key or shape and what to do.

    The `gcfsr` commands print it without a traceback and exit with status 2.
    """
