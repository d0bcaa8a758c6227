"""Hashes of files and images, and the seeds that follow from them."""

import hashlib
import zlib
from pathlib import Path

import numpy as np

from gcfsr_inference.restore.dial import check_seed


def image_seed(image: np.ndarray, seed: int, noise: str) -> int:
    """The seed of one image: "random" noise differs from image to image and does not depend on the batch.

    Raises:
        GCFSRError: as of `check_seed`.
    """
    seed = check_seed(seed)
    return seed + zlib.crc32(array_hash(image).encode()) if noise == "random" else seed


def array_hash(image: np.ndarray) -> str:
    """SHA-256 of an image's pixels, shape and type."""
    head = f"{image.shape}{image.dtype}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(image).tobytes()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file (hashlib.file_digest is not in Python 3.10)."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
