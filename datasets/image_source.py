"""The source of the ground truth faces: a folder, a list of names, or an LMDB of BasicSR. Gives names and bytes."""

import os
import threading
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.dataset_options import FaceOptions
from gcfsr_datasets.image_io import list_images, read_bytes


class ImageSource(Protocol):
    """A numbered set of encoded images."""

    names: list[str]  # paths of files, keys of an LMDB

    def read(self, index: int) -> bytes:
        """The encoded image. Raises GCFSRError with its name if it cannot be read."""
        ...

    def path(self, index: int) -> str:
        """The image's own path, which no other image has: its file, or the LMDB and its key."""
        ...


def open_source(options: FaceOptions) -> ImageSource:
    """The images that the options describe, without those of `exclude_list`.

    Raises:
        GCFSRError: the folder, list or LMDB is missing, empty or malformed.
    """
    lmdb = options.io_backend["type"] == "lmdb"
    roots = (options.dataroot_gt, *(options.extra_roots or ()))
    names = [(_lmdb_keys if lmdb else _paths)(root, options.meta_info_file) for root in roots]
    if options.exclude_list is not None:
        names = _without(names, roots, options.exclude_list)
    parts = [LmdbSource(root, own) if lmdb else FileSource(own) for root, own in zip(roots, names, strict=True)]
    return JoinedSource(parts) if options.extra_roots else parts[0]


class JoinedSource:
    """Several sources, one after the other."""

    def __init__(self, parts: Sequence[ImageSource]):
        self.parts = parts
        self.names = [name for part in parts for name in part.names]
        self.ends = list(accumulate(len(part.names) for part in parts))

    def read(self, index: int) -> bytes:
        part, own = self._part(index)
        return part.read(own)

    def path(self, index: int) -> str:
        part, own = self._part(index)
        return part.path(own)

    def _part(self, index: int) -> tuple[ImageSource, int]:
        number = bisect_right(self.ends, index)
        return self.parts[number], index - (self.ends[number - 1] if number else 0)

    def weights(self, shares: Sequence[float]) -> list[float]:
        """The probability of each image such that the parts are drawn in these proportions."""
        pairs = zip(self.parts, shares, strict=True)
        return [share / sum(shares) / len(part.names) for part, share in pairs for _ in part.names]


class FileSource:
    """Files, by their paths."""

    def __init__(self, names: list[str]):
        self.names = names

    def read(self, index: int) -> bytes:
        return read_bytes(self.names[index])

    def path(self, index: int) -> str:
        return self.names[index]


class LmdbSource:
    """Values of an LMDB. Sources of one LMDB share its environment, and threads may read from one source."""

    def __init__(self, folder: str, names: list[str]):
        self.folder, self.names = folder, names
        self._environment: Any = None
        self._process = -1

    def read(self, index: int) -> bytes:
        if self._process != os.getpid():
            self._environment, self._process = environment_of(self.folder), os.getpid()
        with self._environment.begin() as transaction:
            value = transaction.get(self.names[index].encode())
        if not value:
            raise GCFSRError(f"{self.folder}: {self.names[index]}: no such key, but meta_info.txt lists it")
        return value

    def path(self, index: int) -> str:
        return os.path.join(self.folder, self.names[index])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_environment": None, "_process": -1}


_environments: "WeakValueDictionary[str, Any]" = WeakValueDictionary()  # real path -> open environment of this process
_opening = threading.Lock()


def environment_of(folder: str) -> Any:
    """The open environment of an LMDB: one per process and real path, since py-lmdb refuses to open it twice.

    It is closed when the last source that uses it is deleted.
    """
    path = os.path.realpath(folder)
    with _opening:
        environment = _environments.get(path)
        if environment is None:
            environment = _environments[path] = _open_lmdb(folder)
        return environment


def _forget_environments() -> None:
    """Closes the environments in a forked child, where they must not be used; the parent keeps its own."""
    global _opening
    _opening = threading.Lock()  # another thread of the parent may have held it
    for environment in _environments.values():
        environment.close()
    _environments.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_forget_environments)


def _open_lmdb(folder: str) -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise GCFSRError("io_backend: type: lmdb needs the package lmdb: pip install lmdb") from error
    try:
        return lmdb.open(folder, readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise GCFSRError(f"{folder}: not a readable LMDB ({error}); make it with BasicSR's create_lmdb.py") from error


def _lmdb_keys(root: str, listing: str | None) -> list[str]:
    return [os.path.splitext(name)[0] for name in _listed(listing or os.path.join(root, "meta_info.txt"))]


def _paths(root: str, listing: str | None) -> list[str]:
    if listing is None:
        return [str(path) for path in list_images(root, recursive=True)]
    return [os.path.join(root, name) for name in _listed(listing)]


def _listed(path: str) -> list[str]:
    """The first word of each line; BasicSR writes size and compression behind it."""
    names = [words[0] for line in _text(path).splitlines() if (words := line.split())]
    if not names:
        raise GCFSRError(f"{path}: lists no images; write one name per line")
    return names


def _text(path: str) -> str:
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise GCFSRError(f"{path}: not a text file; write one name per line") from error


def _without(names: list[list[str]], roots: Sequence[str], exclude_list: str) -> list[list[str]]:
    """The names of each root without those that the list holds, with or without their suffix."""
    held_out = {line.strip() for line in _text(exclude_list).splitlines()} - {""}
    kept = [[name for name in own if not {Path(name).name, Path(name).stem} & held_out] for own in names]
    if kept == names:
        raise GCFSRError(f"{exclude_list}: none of its names is in {', '.join(roots)}; check both")
    for root, own in zip(roots, kept, strict=True):
        if not own:
            raise GCFSRError(f"{exclude_list}: excludes every image of {root}; remove its names or the root")
    return kept
