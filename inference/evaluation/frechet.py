"""The Frechet distance between two sets of features, in constant memory (Heusel et al. 2017, with any network)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from gcfsr_arch.errors import GCFSRError

RELIABLE = 2048  # pictures: with fewer the covariance of Inception's 2,048 features is singular and FID biased upwards
CHUNK = 256  # rows summed at once


@dataclass
class Gaussian:
    """Mean and covariance of a stream of features, by exact sums in float64; the order does not matter."""

    count: int = 0
    total: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    outer: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))

    def add(self, features: NDArray) -> None:
        """Takes (N, D) features."""
        rows = features.astype(np.float64)
        if self.count == 0:
            self.total, self.outer = np.zeros(rows.shape[1]), np.zeros((rows.shape[1], rows.shape[1]))
        self.count += len(rows)
        self.total += rows.sum(0)
        self.outer += rows.T @ rows

    @property
    def mean(self) -> NDArray[np.float64]:
        """(D,)."""
        return self.total / self.count

    @property
    def covariance(self) -> NDArray[np.float64]:
        """(D, D), unbiased."""
        return (self.outer - self.count * np.outer(self.mean, self.mean)) / (self.count - 1)


def frechet_distance(mean_a: NDArray, covariance_a: NDArray, mean_b: NDArray, covariance_b: NDArray) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^1/2) of two Gaussians; means (D,), covariances (D, D).

    tr (A B)^1/2 is the sum of the singular values of A^1/2 B^1/2: real however singular A and B are.
    """

    def root(matrix: NDArray) -> NDArray:
        values, vectors = np.linalg.eigh(matrix)
        return vectors * np.sqrt(values.clip(0)) @ vectors.T

    cross = np.linalg.svd(root(covariance_a) @ root(covariance_b), compute_uv=False).sum()
    distance = ((mean_a - mean_b) ** 2).sum() + np.trace(covariance_a) + np.trace(covariance_b) - 2 * cross
    return float(max(distance, 0.0))


def frechet_of_few(a: NDArray, b: NDArray) -> float:
    """The same distance from the features themselves, exact and much faster when there are fewer rows than columns.

    With centred rows X, Y scaled so that A = X^T X and B = Y^T Y, tr (A B)^1/2 is the nuclear norm of X Y^T.

    Args:
        a: (N, D) features.
        b: (M, D) features.
    """

    def centred(rows: NDArray) -> NDArray:
        return (rows - rows.mean(0)) / np.sqrt(len(rows) - 1)

    x, y = centred(a.astype(np.float64)), centred(b.astype(np.float64))
    cross = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    distance = ((a.mean(0, np.float64) - b.mean(0, np.float64)) ** 2).sum() + (x**2).sum() + (y**2).sum() - 2 * cross
    return float(max(distance, 0.0))


def frechet_of(a: Iterable[NDArray], b: Iterable[NDArray]) -> float:
    """The distance between two streams of (D,) feature vectors, each read once and in constant memory.

    Raises:
        GCFSRError: a set has fewer than two pictures.
    """
    x, y = _gather(iter(a)), _gather(iter(b))
    if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        return frechet_of_few(x, y)
    x, y = (side if isinstance(side, Gaussian) else _gaussian([side]) for side in (x, y))
    return frechet_distance(x.mean, x.covariance, y.mean, y.covariance)


def _gather(rows: Iterator[NDArray]) -> "NDArray | Gaussian":
    """All the rows while there are no more than columns, otherwise their sums."""
    first = list(islice(rows, 2))
    if len(first) < 2:
        raise GCFSRError("Frechet distance: needs at least two pictures in each set")
    kept = first + list(islice(rows, len(first[0]) - 2))
    following = next(rows, None)
    return np.stack(kept) if following is None else _gaussian([np.stack(kept), following[None]], rows)


def _gaussian(blocks: list[NDArray], rest: Iterable[NDArray] = ()) -> Gaussian:
    gaussian = Gaussian()
    for block in blocks:
        gaussian.add(block)
    rest = iter(rest)
    while rows := list(islice(rest, CHUNK)):
        gaussian.add(np.stack(rows))
    return gaussian
