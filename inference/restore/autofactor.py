"""How many pixels a face really has, read from where its spectrum breaks off: for the dial's `auto`.

An image of n x n pixels that was enlarged to 256 has almost no energy of its own above n / 256 of the band, and the
noise that it carried ends there too; noise and JPEG that came later do not. Where the break lies is a small regression
from the levels of the bands of its DCT to log2 n, fitted to faces reduced by known factors as photographs are, clean
and worn (`tools/train_autofactor.py`). The stored size plays no part, but that no image has more pixels than it holds.
"""

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

import cv2
import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.resize import resize

SIZE = 256
LEAST = 2.0  # pixels
BANDS_PER_OCTAVE = 4
FLOOR = 1 / 12  # power of rounding to 8 bits; no band is quieter


def estimate_factor(image: np.ndarray, out_size: int = SIZE) -> float:
    """The upscaling factor that a face needs to reach `out_size`, from its pixels alone.

    Args:
        image: (H, W), (H, W, 3) BGR or (H, W, 4) BGRA; uint8, uint16, or float in [0, 1]: an aligned face of any size.
        out_size: side of the image to be made, in pixels. At 256 the factor is 256 / `effective_size(image)`.

    Returns:
        The factor, at least 1; it is not clipped to what a network serves.

    Raises:
        GCFSRError: the image has no pixels or another type.
    """
    return max(1.0, out_size / effective_size(image))


def effective_size(image: np.ndarray) -> float:
    """The effective size of a face in pixels (2 to 256), regardless of its stored size. Arguments as above."""
    w = _weights()
    hidden = (band_levels(image) - w["mean"]) / w["scale"]
    for layer in ("first", "second"):
        hidden = np.tanh(w[f"{layer}_weight"] @ hidden + w[f"{layer}_bias"])
    octaves = float((w["last_weight"] @ hidden + w["last_bias"])[0])
    return min(max(2**octaves, LEAST), SIZE, max(image.shape[:2]))


def as_dict() -> dict[str, Any]:
    """Everything that `estimate_factor` computes with, for programs in other languages; JSON can hold it."""
    weights = {name: array.tolist() for name, array in _weights().items()}
    return {"n": SIZE, "least": LEAST, "floor": FLOOR, "edges": _edges().tolist(), "weights": weights}


def band_levels(image: np.ndarray) -> np.ndarray:
    """log10 of the mean power of each band of an image's DCT, lowest first: (bands,). Arguments as above."""
    basis = _basis()
    shell, count = _shells()
    power = (basis @ _gray_256(image) @ basis.T) ** 2
    return np.log10((np.bincount(shell, power.ravel()) / count)[1:] + FLOOR)


def _gray_256(image: np.ndarray) -> np.ndarray:
    """(256, 256) luma in [0, 255] rounded as an 8-bit image is, so that every depth has the same noise floor."""
    image = np.asarray(image)
    scale = {np.dtype(np.uint8): 1.0, np.dtype(np.uint16): 255 / 65535}.get(image.dtype)
    if scale is None and image.dtype.kind == "f":
        scale = 255.0
    if scale is None or image.ndim not in (2, 3) or 0 in image.shape:
        raise GCFSRError(f"image of shape {image.shape}, {image.dtype}: pass (H, W[, 3 or 4]) uint8, uint16 or float")
    gray = image.astype(np.float32) * np.float32(scale)
    if gray.ndim == 3:
        gray = gray[..., 0] if gray.shape[2] == 1 else cv2.cvtColor(gray[..., :3], cv2.COLOR_BGR2GRAY)
    if gray.shape != (SIZE, SIZE):
        gray = resize(gray, (SIZE, SIZE))
    return np.clip(gray, 0, 255).round()


@lru_cache(maxsize=1)
def _weights() -> dict[str, np.ndarray]:
    """The regression: mean and scale of the levels, weights and biases of two layers of tanh units and a linear one."""
    stored = json.loads(files("gcfsr_inference.restore").joinpath("autofactor.json").read_text(encoding="utf-8"))
    return {name: np.array(values) for name, values in stored.items()}


@lru_cache(maxsize=1)
def _basis() -> np.ndarray:
    """Orthonormal DCT-II: `basis @ image @ basis.T` are its coefficients (scipy.fft would cost its import)."""
    index = np.arange(SIZE)
    basis = np.sqrt(2 / SIZE) * np.cos(np.pi / SIZE * np.outer(index, index + 0.5))
    basis[0] /= np.sqrt(2)
    return basis


def _edges() -> np.ndarray:
    """The first max(u, v) of each band."""
    return np.unique(np.round(2 ** np.arange(0, 8, 1 / BANDS_PER_OCTAVE)).astype(int))


@lru_cache(maxsize=1)
def _shells() -> tuple[np.ndarray, np.ndarray]:
    """The band of each DCT coefficient, by max(u, v), and the number of coefficients in each; 0 is the mean alone."""
    edges = _edges()
    index = np.arange(SIZE)
    shell = np.searchsorted(edges, np.maximum.outer(index, index), side="right").ravel()
    return shell, np.bincount(shell)
