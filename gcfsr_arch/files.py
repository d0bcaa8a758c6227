"""Writes files atomically and makes folders to write into; standard library only, so every module may import it."""

import contextlib
import os
import secrets
import stat
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

from gcfsr_arch.errors import GCFSRError, first_line

ALMOST_FULL = 1 << 22  # bytes: with less room left a failed write is the disk's fault


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes beside the target, syncs and renames: the file is complete, or as it was before.

    Raises:
        GCFSRError: naming the file, when its folder is missing or not writable, or the disk is full.
    """
    with written_beside(path) as file:
        file.write(data)


@contextlib.contextmanager
def written_beside(path: str | os.PathLike[str]) -> Generator[BinaryIO, None, None]:
    """A file that takes its name, synced to the disk, when the block ends without an exception; else it is removed.

    Only a process that is killed leaves it, as `.NAME.*.partial`; `remove_stale` removes it.

    Raises:
        GCFSRError: naming the file, where the block or the renaming raises OSError.
    """
    path = Path(path)
    beside = path.with_name(f".{cut_name(path.name, 100)}.{secrets.token_hex(4)}.partial")  # hidden from listings
    try:
        with open(beside, "wb") as file:
            _lock(file)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise GCFSRError(f"{path}: cannot be written: {_reason(error, path.parent)}") from error
        raise


def remove_stale(folder: Path) -> None:
    """Removes what killed processes left of `written_beside` in a folder; what a running one writes stays."""
    for path in folder.glob(".*.partial"):
        with contextlib.suppress(OSError), open(path, "rb") as file:  # locked: another process writes it
            _lock(file)
            path.unlink()


def cut_name(name: str, most: int = 255) -> str:
    """A file's name of at most `most` bytes: the limit of file systems, which counts bytes, not letters."""
    return os.fsencode(name)[:most].decode(errors="ignore") if len(os.fsencode(name)) > most else name


def read_bytes(path: str | os.PathLike[str], limit: int | None = None, advice: str = "name another file") -> bytes:
    """The bytes of a regular file.

    Args:
        path: the file.
        limit: bytes that it may have.
        advice: what to do where it has more.

    Raises:
        GCFSRError: naming the file when it is missing, unreadable, empty, a device or pipe, or has over `limit` bytes.
    """
    with _opened(path, limit, advice) as file:
        data = file.read()
    if not data:
        raise GCFSRError(f"{path}: the file is empty; remove it or fetch it again")
    return data


def check_file(path: str | os.PathLike[str]) -> None:
    """Raises GCFSRError as `read_bytes` where a file is missing, unreadable, or a device or pipe; reads nothing."""
    with _opened(path, None, ""):
        pass


def check_size(count: int, name: str, limit: int | None, advice: str) -> None:
    """Raises GCFSRError where a file of `count` bytes is above the limit."""
    if limit is not None and count > limit:
        raise GCFSRError(f"{name}: over {limit} bytes; {advice}")


def home_folder(path: str) -> Path:
    """A folder `~/...` in the user's home. Raises GCFSRError where the user has no home."""
    folder = Path(os.path.expanduser(path))
    if not folder.is_absolute():
        raise GCFSRError(f"{path}: this user has no home folder; set HOME to a folder that can be written")
    return folder


def make_folder(folder: Path, key: str) -> None:
    """Makes a folder to write into, with its parents.

    Args:
        folder: it may be there.
        key: what named it, for the error: an option, or what the folder is.

    Raises:
        GCFSRError: it cannot be made, or not be written into.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GCFSRError(f"{key}: {folder}: cannot be made ({error.strerror}); choose another folder") from error
    if not os.access(folder, os.W_OK):
        raise GCFSRError(f"{key}: {folder}: no permission to write there; choose another folder")


def check_folder(folder: Path, key: str) -> None:
    """Raises GCFSRError where `make_folder` will; makes nothing."""
    whole = folder.absolute()
    nearest = next((path for path in (whole, *whole.parents) if path.exists()), whole)
    if not nearest.is_dir():
        raise GCFSRError(f"{key}: {folder}: cannot be made ({nearest.name} is not a folder); choose another folder")
    if not os.access(nearest, os.W_OK):
        raise GCFSRError(f"{key}: {folder}: no permission to write there; choose another folder")


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str], limit: int | None, advice: str) -> Generator[BinaryIO, None, None]:
    """A regular file of at most `limit` bytes, opened to be read. Raises GCFSRError as `read_bytes`."""
    try:
        with open(path, "rb", opener=_open_nonblocking) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise GCFSRError(f"{path}: not a regular file; name one, or pipe its bytes into - where that is taken")
            check_size(status.st_size, os.fspath(path), limit, advice)
            yield file
    except OSError as error:
        raise GCFSRError(f"{path}: {error.strerror or error}; check the path") from error


def _open_nonblocking(path: str, flags: int) -> int:
    """Opens without waiting for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _lock(file: BinaryIO) -> None:
    """Until the file is closed. Raises OSError where another process holds it; Windows locks an open file anyway."""
    if os.name != "nt":
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _reason(error: OSError, folder: Path) -> str:
    if error.strerror:
        return error.strerror
    with contextlib.suppress(OSError, AttributeError):  # Windows has no statvfs
        free = os.statvfs(folder)
        if free.f_bavail * free.f_frsize < ALMOST_FULL:
            return "No space left on device"
    return first_line(error)


def _sync_folder(folder: Path) -> None:
    """Syncs a folder, so that a rename in it survives a power failure."""
    if os.name == "nt":  # Windows opens no folder as a file
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
