"""A private folder for what visitors upload: no part of a photograph stays on the disk after the server has ended."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

PREFIX = "gcfsr-demo-"


def remove_abandoned() -> None:
    """Removes the folders of servers that were killed: their names contain the id of a process that has ended."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = folder.name.removeprefix(PREFIX).split("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's process
        pass
    return True


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that only this user can read, removed at the end of the block and on SIGTERM."""
    remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))  # mode 0700
    with suppress(ValueError):  # not the main thread: no signal handlers there
        signal.signal(signal.SIGTERM, _stop)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
