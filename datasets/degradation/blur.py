"""Gaussian blur followed by bilinear shrinking, for images (H, W, C) of float32.

The two are one linear map. A kernel is a sum of few products u v^T (one if isotropic), so for each term the map is a
pair of thin matrices, which compute the small image's pixels alone: `small = sum of rows_r @ image @ columns_r.T`.
"""

import cv2
import numpy as np
import scipy.sparse

Size = tuple[int, int]
TAIL = 3e-5  # Frobenius norm of the neglected part of a kernel that sums to 1: under 0.1 / 255 in the image


def gaussian_kernel(size: int, sigma: tuple[float, float], angle: float) -> np.ndarray:
    """(size, size) float64 Gaussian with deviations sigma (pixels) along axes turned by `angle` radians; sums to 1."""
    kernel = np.exp(-0.5 * quadratic_form(size, sigma, angle))
    return kernel / kernel.sum()


def quadratic_form(size: int, sigma: tuple[float, float], angle: float) -> np.ndarray:
    """(size, size) squared distance from the middle, in sigmas (pixels) along axes turned by `angle` radians."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    precision = turn @ np.diag(np.square(1.0 / np.array(sigma))) @ turn.T
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return precision[0, 0] * x * x + 2 * precision[0, 1] * x * y + precision[1, 1] * y * y


def blur_and_shrink(image: np.ndarray, kernel: np.ndarray, size: Size) -> np.ndarray:
    """`cv2.resize(cv2.filter2D(image, -1, kernel), ...)` bilinearly to size (h, w), up to 0.1 / 255.

    The kernel is symmetric about its middle; borders mirror without the edge pixel, as OpenCV's default does.
    """
    lines, weights, across = np.linalg.svd(kernel)
    lines = lines * weights
    left_out = np.sqrt(np.cumsum(weights[::-1] ** 2)[::-1])  # the neglected norm when stopping before each term
    rank = max(1, int((left_out > TAIL).sum()))
    if rank * size[0] >= (1 if rank == 1 else 2) * len(image):  # from about here OpenCV is faster
        if rank == 1:
            line, cross = lines[:, 0].astype(np.float32), across[0].astype(np.float32)  # symmetric kernels are faster
            blurred = cv2.sepFilter2D(image, -1, cross, line)
        else:
            blurred = cv2.filter2D(image, -1, kernel)
        return cv2.resize(blurred, size[::-1], interpolation=cv2.INTER_LINEAR)
    height, width, channels = image.shape
    rows = scipy.sparse.vstack([_line_matrix(lines[:, r], height, size[0]) for r in range(rank)], "csr")
    columns = scipy.sparse.hstack([_line_matrix(across[r], width, size[1]) for r in range(rank)], "csr")
    terms = (rows @ image.reshape(height, -1)).reshape(rank, size[0], width, channels)
    stacked = terms.transpose(0, 2, 1, 3).reshape(rank * width, -1)  # (r W, h C)
    return np.ascontiguousarray((columns @ stacked).reshape(size[1], size[0], channels).swapaxes(0, 1))


def _line_matrix(line: np.ndarray, source: int, target: int) -> scipy.sparse.csr_matrix:
    """(target, source) float32: correlates a column with `line`, then samples it bilinearly as `cv2.resize` does."""
    center = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    first = np.minimum(center.astype(np.int64), max(source - 2, 0))
    share = (center - first)[:, None]
    weight = (1 - share) * np.append(line, 0) + share * np.insert(line, 0, 0)  # (target, taps + 1)
    index = first[:, None] + np.arange(len(line) + 1) - len(line) // 2
    period = max(2 * source - 2, 1)
    index = np.abs((index + source - 1) % period - (source - 1))  # mirrors without the edge pixel
    start = np.arange(0, index.size + 1, index.shape[1])
    return scipy.sparse.csr_matrix((weight.astype(np.float32).ravel(), index.ravel(), start), (target, source))
