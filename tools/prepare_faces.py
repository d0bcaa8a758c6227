"""Brings a folder of aligned faces to one size: `python tools/prepare_faces.py FACES OUT --size 512`.

OUT is a folder of PNG files, or an LMDB in BasicSR's layout where its name ends in .lmdb. Images are reduced by bicubic
interpolation equal to MATLAB's. OUT appears when it is complete.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2

from gcfsr_arch.errors import GCFSRError, exit_status
from gcfsr_datasets.degradation import resized
from gcfsr_datasets.image_io import list_images, read_image

MAP_SIZE = 2**40  # address space that an LMDB may grow to; its file takes what its images need


def faces(folder: Path, size: int, names: Sequence[str] | None) -> Iterator[tuple[str, bytes]]:
    """Name without suffix and PNG file of every image, or of those in `names`, at `size` pixels.

    Raises:
        GCFSRError: no such image, two of one name, or one that is not square or too small.
    """
    paths = list_images(folder, recursive=True)
    found = {path.stem: path for path in paths}
    for path in paths:
        if found[path.stem] != path:
            raise GCFSRError(f"{path}: {found[path.stem]} has the same name; rename one of them")
    for name in names or sorted(found):
        if name not in found:
            raise GCFSRError(f"{folder}: has no image {name}, which the list names")
        image = read_image(found[name]).bgr
        height, width = image.shape[:2]
        if height != width or width < size:
            raise GCFSRError(f"{found[name]}: {width}x{height}; an aligned face is square and at least {size} pixels")
        yield name, cv2.imencode(".png", resized(image, size))[1].tobytes()


def write_folder(out: Path, images: Iterator[tuple[str, bytes]]) -> int:
    """Writes OUT/NAME.png; returns how many."""
    count = 0
    for count, (name, png) in enumerate(images, 1):  # noqa: B007
        (out / f"{name}.png").write_bytes(png)
    return count


def write_lmdb(out: Path, images: Iterator[tuple[str, bytes]], size: int) -> int:
    """Writes an LMDB as BasicSR does: key NAME, value PNG, and meta_info.txt; returns how many."""
    import lmdb

    lines = []
    with lmdb.open(str(out), map_size=MAP_SIZE) as environment:
        for name, png in images:
            with environment.begin(write=True) as transaction:
                transaction.put(name.encode(), png)
            lines.append(f"{name}.png ({size},{size},3) 1\n")
    (out / "meta_info.txt").write_text("".join(lines), encoding="utf-8")
    return len(lines)


def run(argv: Sequence[str] | None = None) -> None:
    """Parses the command line and writes OUT.

    Raises:
        GCFSRError: OUT exists, or an image cannot be used (`faces`).
    """
    parser = argparse.ArgumentParser(prog="prepare_faces", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("faces", type=Path, help="folder of square aligned faces, searched with its subfolders")
    parser.add_argument("out", type=Path, help="folder to write, or FILE.lmdb")
    parser.add_argument("--size", type=int, required=True, help="side in pixels")
    parser.add_argument("--list", type=Path, help="text file, one name per line (text after a space is ignored)")
    args = parser.parse_args(argv)
    if args.out.exists():
        raise GCFSRError(f"{args.out}: exists already; remove it or choose another name")
    names = None
    if args.list is not None:
        lines = args.list.read_text(encoding="utf-8").split("\n") if args.list.is_file() else []
        names = [Path(line.split()[0]).stem for line in lines if line.strip()]
        if not names:
            raise GCFSRError(f"{args.list}: no such file, or it names no image")
    partial = args.out.with_name(f".{args.out.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        images = faces(args.faces, args.size, names)
        count = write_lmdb(partial, images, args.size) if args.out.suffix == ".lmdb" else write_folder(partial, images)
        os.replace(partial, args.out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"{args.out}: {count} faces of {args.size} pixels")


if __name__ == "__main__":
    sys.exit(exit_status(run))
