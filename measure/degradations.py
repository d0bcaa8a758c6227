"""How much noise, blocking and blur is left in a result: what several dials should lower. Pure functions.

Images are (H, W, 3) BGR uint8.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from gcfsr_measure.pixels import Image, luma

BLOCK = 8  # JPEG's
ROUNDING = 0.1  # gray levels; bounds the ratio of images without any detail


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


def residual_noise(result: Image, gt: Image, flat: NDArray[np.bool_]) -> float:
    """Standard deviation of the error of Y in a flat area, after what a Gaussian of sigma 4 keeps is taken away."""
    error = (luma(result) - luma(gt))[..., 0]
    return float((error - cv2.GaussianBlur(error, (0, 0), 4))[flat].std())


def blocking(result: Image) -> float:
    """Mean kink of Y over the borders of 8x8 blocks, over that between other neighbours: 1 where blocks do not show.

    The kink of a step is its distance from the mean of the steps before and after it, as in the difference of slope of
    Minami and Zakhor (1995); the ratio is free of contrast. The blocks begin at the first pixel, so a result is to be
    reduced to the size at which it was compressed.
    """
    y = luma(result)[..., 0]
    at_borders, elsewhere = [np.zeros(0)], [np.zeros(0)]
    for axis in (0, 1):
        steps = np.moveaxis(np.diff(y, axis=axis), axis, 0)
        kinks = np.abs(steps[1:-1] - (steps[:-2] + steps[2:]) / 2)
        border = np.arange(1, len(kinks) + 1) % BLOCK == BLOCK - 1
        at_borders.append(kinks[border].ravel())
        elsewhere.append(kinks[~border].ravel())
    borders, others = np.concatenate(at_borders), np.concatenate(elsewhere)
    return float((borders.mean() + ROUNDING) / (others.mean() + ROUNDING)) if len(borders) else 1.0


def strong_edges(gt: Image, share: float = 0.1) -> NDArray[np.bool_]:
    """(H, W): where the ground truth has its strongest edges."""
    strength = np.linalg.norm(_gradient(gt), axis=0)
    return strength >= np.quantile(strength, 1 - share)


def edge_sharpness(result: Image, gt: Image, edges: NDArray[np.bool_]) -> float:
    """Mean slope of Y, in gray levels per pixel, at given edges along the ground truth's gradient: free of noise."""
    slope, towards = _gradient(result)[:, edges], _gradient(gt)[:, edges]
    return float((slope * towards).sum(0).mean() / np.linalg.norm(towards, axis=0).mean())


def _gradient(image: Image) -> NDArray[np.float64]:
    """(2, H, W): of Y, slightly smoothed."""
    y = cv2.GaussianBlur(luma(image)[..., 0], (0, 0), 1)
    return np.stack([cv2.Sobel(y, cv2.CV_64F, 1, 0), cv2.Sobel(y, cv2.CV_64F, 0, 1)]) / 8
