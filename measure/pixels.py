"""Metrics of pixels: PSNR, SSIM, NIQE, and how far a result is from its own input. Framework-free pure functions."""

import math
import warnings

import cv2
import numpy as np
from numpy.typing import NDArray

import gcfsr_autoload
from gcfsr_datasets.resize import resize

Image = NDArray[np.uint8]  # (H, W, 3) BGR in [0, 255]

SSIM_WINDOW = 11
NIQE_BLOCK = 96


def luma(image: NDArray) -> NDArray[np.float64]:
    """Y of YCbCr as in MATLAB and BasicSR (ITU-R BT.601, 16 to 235). (H, W, 3) BGR in [0, 255] -> (H, W, 1)."""
    return image.astype(np.float64) @ np.array([[24.966], [128.553], [65.481]]) / 255 + 16


def psnr(result: NDArray, gt: NDArray, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio in dB over all channels at once; infinite for equal images.

    Args:
        result: (H, W, C) in [0, peak].
        gt: the ground truth, of the same shape.
        peak: the largest possible value.
    """
    error = np.mean((result.astype(np.float64) - gt.astype(np.float64)) ** 2)
    return math.inf if error == 0 else float(10 * np.log10(peak**2 / error))


def ssim(result: NDArray, gt: NDArray, peak: float = 255.0) -> float | None:
    """Structural similarity (Wang et al. 2004): 11x11 Gaussian window of sigma 1.5, valid part, mean over channels.

    Args:
        result: (H, W, C) in [0, peak].
        gt: the ground truth, of the same shape.
        peak: the largest possible value.

    Returns:
        The mean in [-1, 1], or None for an image smaller than the window.
    """
    if min(result.shape[:2]) < SSIM_WINDOW:
        return None
    window = cv2.getGaussianKernel(SSIM_WINDOW, 1.5)
    edge = SSIM_WINDOW // 2

    def blur(x: NDArray) -> NDArray:
        y = cv2.sepFilter2D(x, cv2.CV_64F, window, window)
        return y.reshape(x.shape)[edge:-edge, edge:-edge]

    x, y = result.astype(np.float64), gt.astype(np.float64)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    cov = blur(x * y) - mean_x * mean_y
    score = (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float(score.mean())


def niqe_is_defined(height: int, width: int) -> bool:
    """NIQE fits a Gaussian to features of 96x96 blocks, so it needs at least two blocks."""
    return (height // NIQE_BLOCK) * (width // NIQE_BLOCK) >= 2


def niqe(result: Image) -> float | None:
    """BasicSR's NIQE on Y (no reference, lower is better), or None where it is not defined.

    It is not defined where `niqe_is_defined` is False, and for a flat image, whose features have no distribution.
    """
    if not niqe_is_defined(*result.shape[:2]):
        return None
    gcfsr_autoload.install()  # without it BasicSR fails to import on current torchvision
    from basicsr.metrics.niqe import calculate_niqe

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # means of empty arrays, where an image is flat
            value = float(calculate_niqe(result, crop_border=0, input_order="HWC", convert_to="y"))
    except np.linalg.LinAlgError:
        return None
    return value if np.isfinite(value) else None


def sharpness(image: Image) -> float:
    """High-frequency energy: variance of the Laplacian of Y."""
    return float(cv2.Laplacian(luma(image), cv2.CV_64F).var())


def sharpness_match(result: Image, gt: Image) -> float | None:
    """The smaller over the larger of the two sharpnesses, in [0, 1]; None where both are flat.

    A blurred result has the share of the energy that it kept; an oversharpened one is below 1, too.
    """
    low, high = sorted((sharpness(result), sharpness(gt)))
    return low / high if high > 0 else None


def consistency(result: Image, low: Image) -> float:
    """LR-consistency: PSNR between the result, downscaled by bicubic (not rounded), and its input.

    Args:
        result: (H, W, 3) in [0, 255].
        low: (h, w, 3), the small input.
    """
    height, width, _ = low.shape
    again = np.clip(resize(result.astype(np.float64) / 255, (height, width)), 0, 1)
    return psnr(again * 255, low)
