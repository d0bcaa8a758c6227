"""The dial's `auto`: how many pixels a face really has, read from where its spectrum breaks off.

A picture of n x n pixels that was enlarged to 256 has next to no energy above n / 256 of the band. The spectrum that a
face of every n would have is computed, not learnt: faces share one power law, and shrinking to n and enlarging again
is a known linear map. The n whose predicted spectrum lies nearest to the picture's is the answer. The stored size
plays no part: the picture is brought to 256 x 256 first.
"""

from functools import lru_cache

import cv2
import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.resize import resize

SIZE = 256
POWER, KNEE = 3.2, 5.0  # power spectrum of aligned faces: (k^2 + KNEE^2)^(-POWER / 2), k in half cycles per picture
STEPS_PER_OCTAVE, OCTAVES = 4, 7  # candidates: 256 down to 2 pixels
GAINS = 10.0 ** np.arange(4.3, 8.81, 0.25) * KNEE**POWER  # contrast of the picture, power at k = 0
NOISES = 4.0 ** np.arange(8) / 12  # rounding to 8 bits is 1/12; the others are grain and JPEG noise
TOLERANCE = 0.7  # decades; larger deviations of one band count linearly (Huber), so that no band decides alone

# How small pictures come to be large: bicubic or bilinear, (n, 256) -> (256, 256) columns. Repeated pixels are left
# out: their spectrum has no end, and sharp faces were taken for them.
ENLARGEMENTS = (
    lambda columns: resize(columns, (SIZE, SIZE)),
    lambda columns: cv2.resize(columns, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR),
)


def estimate_factor(image: np.ndarray, out_size: int = SIZE) -> float:
    """The upscaling factor that a face needs to reach `out_size`, from its pixels alone.

    Args:
        image: (H, W), (H, W, 3) BGR or (H, W, 4) BGRA; uint8, uint16, or float in [0, 1]: an aligned face of any size.
        out_size: side of the picture to be made, in pixels. At 256 the factor is 256 / `effective_size(image)`.

    Returns:
        The factor, at least 1; it is not clipped to what a network serves.

    Raises:
        GCFSRError: the picture has no pixels or another type.
    """
    return max(1.0, out_size / effective_size(image))


def effective_size(image: np.ndarray) -> float:
    """How many pixels across a face really has (2 to 256), whatever size it is stored at. Arguments as above."""
    gray = _gray_256(image)
    basis = _basis()
    bands = np.log10(_bands((basis @ gray @ basis.T) ** 2) + 1e-9)
    deviation = np.abs(_predictions() - bands)  # (sizes * enlargements, gains, noises, bands)
    quadratic = deviation < TOLERANCE
    cost = np.where(quadratic, deviation**2 / 2, TOLERANCE * (deviation - TOLERANCE / 2)).sum(axis=-1)
    return float(_sizes()[np.unravel_index(cost.argmin(), cost.shape)[0] // len(ENLARGEMENTS)])


def _gray_256(image: np.ndarray) -> np.ndarray:
    """(256, 256) luma in [0, 255] rounded as an 8-bit picture is, so that every depth has the same noise floor."""
    scale = {np.dtype(np.uint8): 1.0, np.dtype(np.uint16): 255 / 65535}.get(image.dtype)
    if scale is None and image.dtype.kind == "f":
        scale = 255.0
    if scale is None or image.ndim not in (2, 3) or 0 in image.shape:
        raise GCFSRError(f"picture of shape {image.shape}, {image.dtype}: pass (H, W[, 3 or 4]) uint8, uint16 or float")
    gray = image.astype(np.float32) * np.float32(scale)
    if gray.ndim == 3:
        gray = gray[..., 0] if gray.shape[2] == 1 else cv2.cvtColor(gray[..., :3], cv2.COLOR_BGR2GRAY)
    if gray.shape != (SIZE, SIZE):
        gray = resize(gray, (SIZE, SIZE))
    return np.clip(gray, 0, 255).round()


@lru_cache(maxsize=1)
def _sizes() -> np.ndarray:
    return np.unique(np.round(SIZE / 2.0 ** (np.arange(STEPS_PER_OCTAVE * OCTAVES + 1) / STEPS_PER_OCTAVE)))


@lru_cache(maxsize=1)
def _basis() -> np.ndarray:
    """Orthonormal DCT-II: `basis @ picture @ basis.T` are its coefficients (scipy.fft would cost its import)."""
    index = np.arange(SIZE)
    basis = np.sqrt(2 / SIZE) * np.cos(np.pi / SIZE * np.outer(index, index + 0.5))
    basis[0] /= np.sqrt(2)
    return basis


@lru_cache(maxsize=1)
def _shells() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The band of each DCT coefficient (thirds of an octave of max(u, v)), coefficients per band, and band edges."""
    edges = np.unique(np.round(2 ** np.arange(0, 8.01, 1 / 3)).astype(int))
    index = np.arange(SIZE)
    shell = np.searchsorted(edges, np.maximum.outer(index, index), side="right").ravel()  # 0 is the mean alone
    return shell, np.bincount(shell), edges


def _bands(power: np.ndarray) -> np.ndarray:
    """(256, 256) power of DCT coefficients -> mean power of each band, lowest first, without the picture's mean."""
    shell, count, edges = _shells()
    return (np.bincount(shell, power.ravel()) / count)[1 : len(edges)]


@lru_cache(maxsize=1)
def _predictions() -> np.ndarray:
    """log10 of the band powers for every size, enlargement, contrast and noise: (sizes * 2, gains, noises, bands)."""
    basis = _basis().astype(np.float32)
    squares = np.arange(SIZE, dtype=np.float32) ** 2
    face = (np.add.outer(squares, squares) + np.float32(KNEE**2)) ** np.float32(-POWER / 2)
    clean = []
    for n in _sizes().astype(int):
        shrunk = resize(basis.T, (n, SIZE))  # (n, 256): what shrinking leaves of each cosine
        for enlarge in ENLARGEMENTS:
            spread = (basis @ enlarge(shrunk)) ** 2  # power of coefficient j that arrives in i
            clean.append(_bands(spread @ face @ spread.T))
    power = GAINS[None, :, None, None] * np.array(clean)[:, None, None, :] + NOISES[None, None, :, None]
    return np.log10(power)
