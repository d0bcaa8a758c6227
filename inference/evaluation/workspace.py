"""The folder of an evaluation: the paths of all images and values, and a check against mixing two evaluations."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.files import make_folder
from gcfsr_datasets.image_io import MAX_PIXELS, list_images, read_image, write_bytes_atomic, write_image
from gcfsr_inference.documents import Name, Sha256, read_document
from gcfsr_inference.restore.hashes import file_hash

OTHER_FOLDER = "choose another --out or pass --overwrite"


def read_bgr(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """An image as (H, W, 3) BGR uint8; 16 bits are rounded to 8.

    Raises:
        GCFSRError: not a readable image, or above `max_pixels` by its header.
    """
    bgr = read_image(path, max_pixels).bgr
    return np.rint(bgr / 257).astype(np.uint8) if bgr.dtype == np.uint16 else bgr


def write_json(path: Path, data: Any) -> None:
    """Writes strict JSON atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(path, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())


def save_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Writes a PNG atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image)


def by_stem(folder: str | Path, include: Sequence[str] = ()) -> dict[str, Path]:
    """The images of a folder by name without suffix, sorted.

    Args:
        folder: holds the images.
        include: shell patterns of names; none means all.

    Raises:
        GCFSRError: the folder does not exist, no image matches, or two images have the same name.
    """
    files: dict[str, Path] = {}
    for path in list_images(folder):
        if include and not any(path.match(pattern) or Path(path.stem).match(pattern) for pattern in include):
            continue
        if path.stem in files:
            raise GCFSRError(f"{folder}: {files[path.stem].name} and {path.name} share a name; remove one")
        files[path.stem] = path
    if not files:
        raise GCFSRError(f"{folder}: no image matches {' '.join(include)}")
    return files


def chunks(names: Sequence[str], size: int) -> Iterator[list[str]]:
    """Slices of at most `size` names."""
    for start in range(0, len(names), size):
        yield list(names[start : start + size])


def combined_hash(files: dict[str, Path]) -> str:
    """One sha256 over names and contents, so that two evaluations can show that they used the same images."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name} {file_hash(files[name])}\n".encode())
    return digest.hexdigest()


def _earlier(path: Path, schema: TypeAdapter[dict[str, Any]]) -> dict[str, Any]:
    """What an earlier run wrote; nothing without a file."""
    try:
        return read_document(path, schema, "what `gcfsr evaluate` writes") if path.exists() else {}
    except GCFSRError as error:
        raise GCFSRError(f"{error}; {OTHER_FOLDER}") from error


class Workspace:
    """Paths below the output folder.

    Args:
        root: the output folder, created if it does not exist.

    Raises:
        GCFSRError: it cannot be made, or not be written into.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        make_folder(self.root, "--out")

    def gt(self, name: str) -> Path:
        return self.root / "gt" / f"{name}.png"

    def low(self, input_key: str, name: str) -> Path:
        return self.root / "inputs" / input_key / f"{name}.png"

    def result(self, label: str, condition: str, name: str) -> Path:
        return self.root / "results" / label / condition / f"{name}.png"

    def values(self, label: str, condition: str) -> Path:
        return self.root / "values" / label / f"{condition}.jsonl"

    def features(self, metric: str, digest: str) -> Path:
        return self.root / "features" / metric / f"{digest[:32]}.npy"

    def claim(self, file: str, identity: dict[str, Any], what: str) -> None:
        """Writes what the images beside the file depend on; raises if existing images depend on something else.

        Raises:
            GCFSRError: the folder has images of an earlier run with another identity, or the file is damaged.
        """
        path = self.root / file
        identity = json.loads(json.dumps(identity))
        earlier = _earlier(path, TypeAdapter(dict[str, Any]))
        differing = sorted(k for k in {*earlier, *identity} if earlier.get(k) != identity.get(k))
        if differing and earlier and next(path.parent.rglob("*.png"), None):
            raise GCFSRError(f"{self.root}: holds {what} of another run ({differing[0]} differs); {OTHER_FOLDER}")
        if differing:
            write_json(path, identity)

    def claim_images(self, hashes: dict[str, str]) -> None:
        """Writes the ground truth's hashes by name. Images may be added, but not changed.

        Raises:
            GCFSRError: an image has changed, or the file of the hashes is damaged.
        """
        path = self.root / "images.json"
        earlier = _earlier(path, TypeAdapter(dict[Name, Sha256]))
        changed = sorted(name for name, digest in hashes.items() if earlier.get(name, digest) != digest)
        if changed:
            raise GCFSRError(
                f"{self.root}: the ground truth {changed[0]} is another image than in an earlier run; {OTHER_FOLDER}"
            )
        if not set(hashes) <= set(earlier):
            write_json(path, {**earlier, **hashes})

    def clear(self) -> None:
        """Removes the files of earlier runs, and nothing else."""
        for name in ("gt", "inputs", "results", "values", "features", "sheets"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        for name in ("run.json", "images.json"):
            (self.root / name).unlink(missing_ok=True)
