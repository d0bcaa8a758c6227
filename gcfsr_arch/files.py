"""Writing files whole or not at all; stdlib only, so every room may import it."""

import contextlib
import os
from pathlib import Path

from gcfsr_arch.errors import GCFSRError


def write_atomic(path: str | Path, data: bytes) -> None:
    """Writes beside the target, syncs and renames: the file is whole or absent.

    Raises:
        GCFSRError: naming the file, when its folder is missing, full or not writable.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise GCFSRError(f"{path}: it cannot be written ({error.strerror or error})") from error
