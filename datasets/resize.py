"""Exact MATLAB bicubic with antialiasing, as two small matrices: `rows @ image @ columns.T`.

Equal to BasicSR's `imresize` to 1e-6 in float for ratios that are powers of two, to 1e-5 for others, whose coordinates
it rounds to float32. A column of n pixels that becomes m has m x n weights of which only about 4 max(n, m) are not
zero, so arrays use scipy's CSR matrices (cached per size pair) and tensors use dense ones, which differentiate by
themselves and suit a GPU.
"""

from functools import lru_cache

import cv2
import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from gcfsr_arch.errors import GCFSRError

Size = tuple[int, int]


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -0.5, zero outside [-2, 2]."""
    x = np.abs(x)
    inner = 1.5 * x**3 - 2.5 * x**2 + 1
    outer = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, inner, np.where(x <= 2, outer, 0.0))


@lru_cache(maxsize=1024)
def resize_matrix(source: int, target: int, dtype: type = np.float32) -> scipy.sparse.csr_matrix:
    """The (target, source) matrix that resizes a column of `source` pixels to `target` pixels; each row sums to 1.

    Shrinking widens the kernel by source / target (antialiasing); the border mirrors, edge pixel included.
    """
    scale = target / source
    sharpness = min(scale, 1.0)
    center = (np.arange(target) + 0.5) / scale - 0.5  # of each target pixel, in source pixels
    first = np.floor(center - 2 / sharpness).astype(np.int64)
    index = first[:, None] + np.arange(int(np.ceil(4 / sharpness)) + 2)  # (target, taps)
    weight = cubic((center[:, None] - index) * sharpness)
    weight /= weight.sum(axis=1, keepdims=True)
    index %= 2 * source
    index = np.minimum(index, 2 * source - 1 - index)
    row = np.broadcast_to(np.arange(target)[:, None], index.shape)
    matrix = scipy.sparse.csr_matrix((weight.ravel(), (row.ravel(), index.ravel())), shape=(target, source))
    matrix.eliminate_zeros()
    return scipy.sparse.csr_matrix(matrix, dtype=dtype)


def resize(image: np.ndarray, size: Size) -> np.ndarray:
    """Resizes a floating-point image (H, W) or (H, W, C) to (h, w); any channel order and range, not clipped.

    Returns:
        A contiguous array (h, w) or (h, w, C) of the same dtype. Overshoots of bicubic are kept, as `imresize` does.

    Raises:
        GCFSRError: the image is not float32 or float64, or a size is not positive.
    """
    _check(image.dtype in (np.float32, np.float64), image.shape[:2], size, image.dtype)
    rows = resize_matrix(image.shape[0], size[0], image.dtype.type)
    columns = resize_matrix(image.shape[1], size[1], image.dtype.type)
    if size[0] < image.shape[0]:  # the cheaper direction first, so that the second pass has less to do
        return _along_width(columns, _along_height(rows, image))
    return _along_height(rows, _along_width(columns, image))


def resize_planes(planes: np.ndarray, size: Size) -> np.ndarray:
    """`resize` for planes (C, H, W) -> (C, h, w)."""
    out = np.empty((len(planes), *size), planes.dtype)
    for plane, target in zip(planes, out, strict=True):
        target[...] = resize(plane, size)
    return out


def resize_tensor(x: Tensor, size: Size) -> Tensor:
    """`resize` for tensors (..., H, W) -> (..., h, w): differentiable, on the tensor's device and in its dtype.

    Half precision is computed in float32. Not clipped.

    Raises:
        GCFSRError: the tensor is not floating-point, or a size is not positive.
    """
    _check(x.is_floating_point(), (x.shape[-2], x.shape[-1]), size, x.dtype)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    rows = _dense(x.shape[-2], size[0], dtype, x.device)
    columns = _dense(x.shape[-1], size[1], dtype, x.device)
    return (rows @ x.to(dtype) @ columns.T).to(x.dtype)


@lru_cache(maxsize=64)
def _dense(source: int, target: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    matrix = resize_matrix(source, target, np.float64).toarray()
    with torch.inference_mode(False):  # a cached inference tensor would raise in a later backward pass
        return torch.from_numpy(matrix).to(device=device, dtype=dtype)


def _along_height(matrix: scipy.sparse.csr_matrix, image: np.ndarray) -> np.ndarray:
    return (matrix @ image.reshape(len(image), -1)).reshape(-1, *image.shape[1:])


def _along_width(matrix: scipy.sparse.csr_matrix, image: np.ndarray) -> np.ndarray:
    return _turned(_along_height(matrix, _turned(image)))


def _turned(image: np.ndarray) -> np.ndarray:
    """(H, W, ...) -> (W, H, ...), contiguous; OpenCV is several times faster but supports few channels only."""
    if image.ndim == 3 and image.shape[2] > 4:
        return np.ascontiguousarray(image.swapaxes(0, 1))
    return cv2.transpose(image).reshape(image.shape[1], image.shape[0], *image.shape[2:])


def _check(floating: bool, source: tuple[int, ...], target: Size, dtype: object) -> None:
    if not floating:
        raise GCFSRError(f"resize: dtype {dtype} cannot be resized; convert the image to float32 first")
    if min(*source, *target) < 1:
        raise GCFSRError(f"resize: {tuple(source)} to {tuple(target)} has an empty side; pass sizes of at least 1")
