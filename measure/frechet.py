"""The Frechet distance between two sets of features, in constant memory (Heusel et al. 2017, with any network).

torch-fidelity's `fid_statistics_to_metric` gives the same number (a test compares them). It takes eigenvalues of a
product of covariances, which is slow and loses digits where there are fewer images than features; this does not.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gcfsr_arch.errors import GCFSRError

RELIABLE = 2048  # images: with fewer the covariance of Inception's 2,048 features is singular and FID is biased upwards
CHUNK = 2048  # rows taken at once


class Gaussian(NamedTuple):
    """A fitted Gaussian: mean (D,) and R (at most D, D), where R^T R is the unbiased covariance."""

    mean: NDArray[np.float64]
    root: NDArray[np.float64]


def frechet_distance(a: Iterable[NDArray], b: Iterable[NDArray]) -> float:
    """The Frechet distance between Gaussians fitted to two sets of features.

    |mean_a - mean_b|^2 + tr(A) + tr(B) - 2 tr (A B)^1/2, where with A = R_a^T R_a and B = R_b^T R_b the last trace is
    the sum of the singular values of R_a R_b^T: real and exact however singular A and B are.

    Args:
        a: (D,) feature vectors, at least two; read once.
        b: the same of the other set.

    Raises:
        GCFSRError: a set has fewer than two vectors.
    """
    x, y = fit(a), fit(b)
    cross = np.linalg.svd(x.root @ y.root.T, compute_uv=False).sum()
    distance = np.square(x.mean - y.mean).sum() + np.square(x.root).sum() + np.square(y.root).sum() - 2 * cross
    return float(max(distance, 0.0))


def fit(rows: Iterable[NDArray]) -> Gaussian:
    """Mean and covariance of a stream of (D,) vectors, updated a chunk at a time (Chan et al., 1983, with QR).

    Raises:
        GCFSRError: fewer than two vectors.
    """
    count, mean, root = 0, np.zeros(1), np.zeros((0, 1))
    for chunk in _chunks(iter(rows)):
        step, more = chunk.mean(0) - mean, len(chunk)
        if count == 0:
            root = np.zeros((0, chunk.shape[1]))
        between = np.sqrt(count * more / (count + more)) * step
        root = np.linalg.qr(np.vstack([root, chunk - chunk.mean(0), between]), mode="r")
        count, mean = count + more, mean + step * more / (count + more)
    if count < 2:
        raise GCFSRError("Frechet distance: at least two images are needed in each set")
    return Gaussian(mean, root / np.sqrt(count - 1))


def _chunks(rows: Iterator[NDArray]) -> Iterator[NDArray[np.float64]]:
    while chunk := list(islice(rows, CHUNK)):
        yield np.stack(chunk).astype(np.float64)
