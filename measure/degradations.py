"""How much noise, blocking and blur is left in a result: what several dials should lower. Pure functions.

Images are (H, W, 3) BGR uint8.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from gcfsr_measure.pixels import Image, luma

BLOCK = 8  # JPEG's


def flat_area(gt: Image, share: float = 0.2) -> NDArray[np.bool_]:
    """(H, W): the flattest part of the middle of an aligned face, neither black nor white: mostly cheeks and forehead.

    Args:
        gt: the ground truth.
        share: of the pixels of its middle.
    """
    y = luma(gt)[..., 0]
    mean, square = (cv2.blur(value, (9, 9)) for value in (y, y * y))
    spread = np.sqrt(np.maximum(square - mean**2, 0))
    height, width = y.shape
    middle = np.zeros(y.shape, bool)
    middle[height // 5 : -height // 5, width // 4 : -width // 4] = True
    usable = middle & (mean > 40) & (mean < 215)
    chosen = usable if usable.any() else middle
    return chosen & (spread <= np.quantile(spread[chosen], share))


def residual_noise(result: Image, flat: NDArray[np.bool_]) -> float:
    """Standard deviation of Y in a flat area, after what a Gaussian of sigma 4 keeps is taken away."""
    y = luma(result)[..., 0]
    return float((y - cv2.GaussianBlur(y, (0, 0), 4))[flat].std())


def blocking(result: Image) -> float:
    """Mean squared step of Y over the borders of 8x8 blocks, less that between other neighbours.

    The blocking effect of PSNR-B (Yim and Bovik 2011) before it is weighted and clipped at zero. The blocks begin at
    the first pixel, so a result is to be reduced to the size at which it was compressed.
    """
    y = luma(result)[..., 0]
    at_borders, elsewhere = [], []
    for axis in (0, 1):
        steps = np.moveaxis(np.diff(y, axis=axis), axis, 0) ** 2
        border = np.arange(len(steps)) % BLOCK == BLOCK - 1
        at_borders.append(steps[border].ravel())
        elsewhere.append(steps[~border].ravel())
    if not any(part.size for part in at_borders):
        return 0.0
    return float(np.concatenate(at_borders).mean() - np.concatenate(elsewhere).mean())


def strong_edges(gt: Image, share: float = 0.1) -> NDArray[np.bool_]:
    """(H, W): where the ground truth has its strongest edges."""
    strength = _gradient(gt)
    return strength >= np.quantile(strength, 1 - share)


def edge_sharpness(result: Image, edges: NDArray[np.bool_]) -> float:
    """Mean gradient of Y, in gray levels per pixel, at given edges."""
    return float(_gradient(result)[edges].mean())


def _gradient(image: Image) -> NDArray[np.float64]:
    """Magnitude of the gradient of Y, slightly smoothed, so that noise counts little."""
    y = cv2.GaussianBlur(luma(image)[..., 0], (0, 0), 1)
    return np.hypot(cv2.Sobel(y, cv2.CV_64F, 1, 0), cv2.Sobel(y, cv2.CV_64F, 0, 1)) / 8
