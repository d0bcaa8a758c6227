"""Which files `gcfsr restore` reads, and what it writes where: GFPGAN's and CodeFormer's folders."""

import codecs
import hashlib
import os
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import glob
from itertools import count
from pathlib import Path

import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.files import check_file, check_folder, cut_name, make_folder, remove_stale
from gcfsr_datasets.image_io import (
    DEEP,
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    WITH_ALPHA,
    WRITTEN_SUFFIXES,
    ImageData,
    check_form,
    decode_image,
    encode_image,
    list_files,
    read_bytes,
    read_file,
    read_stream,
    size_of,
    write_bytes_atomic,
)
from gcfsr_inference import console
from gcfsr_inference.console import counted

FOLDERS = ("cropped_faces", "restored_faces", "cmp", "restored_imgs", "spread")
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mts", ".m2ts", ".ts", ".wmv", ".3gp"}
)
NAMES_FILE = IMAGE_SUFFIXES | VIDEO_SUFFIXES  # an output with such a suffix is a file
STDIN = "-"
LONGEST_LIST = 1 << 28  # bytes
LONGEST_SUFFIX = 100  # bytes of --suffix
LONGEST_NAME = 250  # bytes; file systems take 255, and a sidecar's .json is longer than .png


@dataclass(frozen=True)
class Source:
    """One input: its file (None is standard input) and the name, without suffix, that its outputs carry."""

    path: Path | None
    stem: Path

    @property
    def name(self) -> str:
        """For messages."""
        return "standard input" if self.path is None else str(self.path)

    @property
    def is_video(self) -> bool:
        """Whether the suffix is a video's."""
        return self.path is not None and self.path.suffix.lower() in VIDEO_SUFFIXES

    def check(self, max_pixels: int = MAX_PIXELS) -> None:
        """Raises GCFSRError where `read` will: for an image by its header. Standard input is not touched."""
        if self.path is None:
            return
        if self.is_video:
            check_file(self.path)
        else:
            size_of(read_file(self.path, max_pixels), self.name, max_pixels)

    def read(self, max_pixels: int = MAX_PIXELS) -> tuple[ImageData, str]:
        """The decoded image and the SHA-256 of its bytes."""
        if self.path is None:
            data = read_stream(sys.stdin.buffer, self.name, max_pixels)
        else:
            data = read_file(self.path, max_pixels)
        return decode_image(data, self.name, max_pixels), hashlib.sha256(data).hexdigest()


def gather(inputs: Sequence[str], recursive: bool = False, out: str = STDIN) -> tuple[list[Source], list[str]]:
    """Files, folders (all images and videos in them; sub-folders too if `recursive`) and `-` in the order given.

    Args:
        inputs: paths, or `-` for standard input.
        recursive: also the folders below an input folder.
        out: `-o`; files in it are not inputs.

    Returns:
        The sources, each with a stem of its own, and a line for each folder of which files were skipped.

    Raises:
        GCFSRError: a folder without images or videos, or standard input twice.
    """
    found: list[tuple[Path | None, Path]] = []
    skipped: list[str] = []
    for item in expanded(inputs):
        path = Path(item)
        if item == STDIN:
            if (None, Path("stdin")) in found:
                raise GCFSRError("-: standard input can be read once only; name it once")
            found.append((None, Path("stdin")))
        elif os.path.isdir(path):  # unlike Path.is_dir, False for a name that is too long
            files, line = _files_of(path, recursive, out)
            found += [(file, file.relative_to(path)) for file in files]
            skipped += [line] if line else []
        else:
            found.append((path, Path(path.name)))
    once = Counter(relative.with_suffix("") for _, relative in found)
    taken: set[str] = set()
    sources = []
    for path, relative in found:
        stem = relative.with_suffix("")
        if once[stem] > 1:  # beside `a.jpg`, `a.png` gives `a_png`
            stem = stem.with_name(f"{stem.name}_{relative.suffix[1:]}")
        sources.append(Source(path, _distinct(stem, taken)))
    return sources, skipped


def expanded(inputs: Sequence[str]) -> Iterator[str]:
    """Inputs with `@FILE` replaced by that file's lines and patterns (`*`, `**`, `?`, `[...]`) by what they match.

    A file of that very name comes before a list or a pattern.

    Raises:
        GCFSRError: a list that cannot be read or is empty, a pattern that matches nothing, or an empty name.
    """
    for item in inputs:
        if not item:
            raise GCFSRError("the name of an input is empty; . is the current folder")
        if item.startswith("@") and not os.path.lexists(item):
            data = read_bytes(Path(item[1:]), LONGEST_LIST).removeprefix(codecs.BOM_UTF8)
            if b"\0" in data:
                raise GCFSRError(f"{item}: not a list; write one input a line, in UTF-8")
            lines = [line for line in re.split("[\r\n]+", os.fsdecode(data)) if line.strip()]
            if not lines:
                raise GCFSRError(f"{item}: the list is empty; write one input per line")
            yield from lines
        elif set(item) & set("*?[") and not os.path.lexists(item):
            matches = sorted(glob(item, recursive=True))
            if not matches:
                raise GCFSRError(f"{item}: no file matches this pattern")
            yield from matches
        else:
            yield item


def _files_of(folder: Path, recursive: bool, out: str) -> tuple[list[Path], str]:
    """The images and videos of a folder, and a line about its other files ("" where there are none).

    Links that lead nowhere, which git-annex leaves for files it has not fetched, are counted in it.
    """
    root = Path(os.path.realpath(out))
    own = [root / name for name in FOLDERS] if root == folder.resolve() else [root]
    files = list_files(folder, recursive)
    inputs = [file for file in files if not (recursive and any(file.resolve().is_relative_to(path) for path in own))]
    taken = [file for file in inputs if file.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES]
    if not taken:
        raise GCFSRError(f"{folder}: no images or videos in this folder; expected {', '.join(sorted(NAMES_FILE))}")
    kinds = Counter(file.suffix.lower() or "no suffix" for file in inputs if file not in set(taken))
    parts = [f"{count} {kind}" for kind, count in kinds.most_common()]
    parts += [f"{len(files) - len(inputs)} in the output folder"] if len(files) > len(inputs) else []
    found = folder.rglob("*") if recursive else folder.iterdir()
    broken = sum(path.is_symlink() and not path.exists() for path in found)
    parts += [counted(broken, "broken link")] if broken else []
    files_left = counted(len(files) - len(taken) + broken, "file")
    return taken, f"{folder}: {files_left} skipped: {', '.join(parts)}" if parts else ""


def _distinct(stem: Path, taken: set[str]) -> Path:
    """The stem, numbered where another input has it already (also where only a file system without case mixes them)."""
    for number in count(2):
        key = unicodedata.normalize("NFC", str(stem)).casefold()
        if key not in taken:
            break
        stem = stem.with_name(f"{stem.name}_{number}" if number == 2 else f"{stem.name.rpartition('_')[0]}_{number}")
    taken.add(key)
    return stem


def _with_tail(stem: str, tail: str) -> str:
    """stem + tail; a stem that makes the name too long for a file system is cut and ends in a part of its hash."""
    if len(os.fsencode(stem + tail)) <= LONGEST_NAME:
        return stem + tail
    mark = f"~{hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]}{tail}"
    return cut_name(stem, LONGEST_NAME - len(os.fsencode(mark))) + mark


class Outputs:
    """Where results go: a folder with GFPGAN's sub-folders, one file, or standard output (`-`, PNG).

    Args:
        out: `-o`. A name with an image's (or video's) suffix that is not a folder is a file, for one input only.
        suffix: `--suffix`, put behind the name.
        ext: `--ext`: "auto" or a suffix without its dot.
        sources: all inputs; none of them may be overwritten.
        joint: all inputs make one file together, whatever its suffix.
        read: further files that options name to be read; nor may these be overwritten.

    Raises:
        GCFSRError: several inputs for one file, an unknown ext, or an output that is an input.
    """

    def __init__(
        self,
        out: str,
        suffix: str | None,
        ext: str,
        sources: Sequence[Source],
        joint: bool = False,
        read: Sequence[str] = (),
    ) -> None:
        self.to_stdout = out == STDIN
        self.root = Path(out)
        if suffix and set(suffix) & {"/", "\\", "\0"}:
            raise GCFSRError(f"--suffix {suffix!r}: is appended to a file's name and cannot contain a slash")
        if suffix and len(os.fsencode(suffix)) > LONGEST_SUFFIX:
            raise GCFSRError(f"--suffix {suffix[:20]}...: has at most {LONGEST_SUFFIX} bytes")
        self.tail = f"_{suffix}" if suffix else ""
        self.ext = ext if ext == "auto" else f".{ext.lstrip('.').lower()}"
        is_file = joint or (self.root.suffix.lower() in NAMES_FILE and not self.root.is_dir())
        self.single = self.root if is_file and not self.to_stdout else None
        if self.ext != "auto" and self.ext not in WRITTEN_SUFFIXES:
            raise GCFSRError(f"--ext {ext}: auto, png, jpg, webp, tiff or bmp")
        if (self.single or self.to_stdout) and len(sources) > 1 and not joint:
            raise GCFSRError(f"-o {out}: one file for {len(sources)} inputs; name a folder")
        self.cleaned: set[Path] = set()
        self.made: set[Path] = set()
        if not self.to_stdout:
            check_folder(self.single.parent if self.single else self.root, "-o")
        if self.single and self.single.exists() and not self.single.is_file():
            raise GCFSRError(f"-o {out}: not a regular file; name another, or - for standard output")
        files = [*read, *(source.path for source in sources if source.path is not None)]
        self.inputs = {os.path.realpath(file): str(file) for file in files}
        if self.single:
            self.check(self.single)

    def path(self, folder: str, source: Source, number: int | None = None, ext: str = ".png", part: str = "") -> Path:
        """The file of one face (or, without number, of the whole image) in a sub-folder."""
        index = "" if number is None else f"_{number:02d}"
        tail = f"{index}{self.tail if folder.startswith('restored') else ''}{part}{ext}"
        return self.root / folder / source.stem.parent / _with_tail(source.stem.name, tail)

    def result(self, source: Source, image: ImageData, number: int | None = None) -> Path | None:
        """The file that holds the result: of a face, or without number of the whole image; None: standard output."""
        if self.to_stdout or self.single:
            return self.single
        folder = "restored_imgs" if number is None else "restored_faces"
        return self.path(folder, source, number, self._suffix(source, image, whole=number is None))

    def beside(self, source: Source, result: Path | None, part: str) -> Path:
        """A further file of one result where there are no sub-folders: `out.png` -> `out` + part."""
        base = result or Path(source.stem.name)
        return base.with_name(_with_tail(base.stem, part))

    def _suffix(self, source: Source, image: ImageData, whole: bool) -> str:
        if self.ext != "auto":
            return self.ext
        own = source.path.suffix.lower() if source.path is not None and whole else ".png"
        holds = own in WRITTEN_SUFFIXES and (image.alpha is None or own in WITH_ALPHA)
        holds = holds and (image.bgr.dtype != np.uint16 or own in DEEP) and (image.icc is None or own != ".bmp")
        return own if holds else ".png"

    def check(self, path: Path) -> Path:
        """The path itself, if writing it would destroy no input."""
        overwritten = self.inputs.get(os.path.realpath(path))
        if overwritten is not None:
            raise GCFSRError(f"{path}: the output is the input {overwritten}; choose another -o")
        return path

    def check_form(self, path: Path | None, image: ImageData) -> None:
        """Raises GCFSRError where a file's format cannot hold the image (16 bits, alpha, profile)."""
        suffix = ".png" if path is None else path.suffix.lower()
        deep, alpha = image.bgr.dtype == np.uint16, image.alpha is not None
        check_form(suffix, deep, alpha, image.icc is not None, str(path or "standard output"))

    def write(self, path: Path | None, image: ImageData) -> str:
        """Writes an image whole or not at all (None: to standard output as PNG); returns the SHA-256 of its bytes."""
        suffix = ".png" if path is None else path.suffix.lower()
        name = str(path or "standard output")
        data = encode_image(image.bgr, image.alpha, image.icc, suffix, name=name, metadata=image.metadata)
        self.write_bytes(path, data)
        return hashlib.sha256(data).hexdigest()

    def write_bytes(self, path: Path | None, data: bytes) -> None:
        """Writes bytes whole or not at all, making the folder; refuses an input's path."""
        if path is None:
            console.send(data)
            return
        self.check(path)
        self.prepare(path.parent)
        write_bytes_atomic(path, data)

    def prepare(self, folder: Path) -> None:
        """Makes a folder to write into; the first time removes what a killed run left half written in it."""
        if folder not in self.cleaned:
            self.made |= {path for path in (folder, *folder.parents) if not path.exists()}
            make_folder(folder, "-o")
            remove_stale(folder)
            self.cleaned.add(folder)

    def close(self) -> None:
        """Removes the folders that were made for results and got none."""
        for folder in sorted(self.made, key=lambda path: -len(path.parts)):
            with suppress(OSError):  # it holds something
                folder.rmdir()
