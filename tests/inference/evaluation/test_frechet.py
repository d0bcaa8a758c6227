"""The Frechet distance against its closed form, the matrix square root and what training uses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.evaluation.frechet import Gaussian, frechet_distance, frechet_of, frechet_of_few


def exact_features(rng: np.random.Generator, mean: np.ndarray, covariance: np.ndarray, count: int) -> np.ndarray:
    """Features whose sample mean and covariance are exactly those given."""
    rows = rng.standard_normal((count, len(mean)))
    rows -= rows.mean(0)
    whitening = np.linalg.inv(np.linalg.cholesky(np.cov(rows, rowvar=False)))
    return rows @ whitening.T @ np.linalg.cholesky(covariance).T + mean


@pytest.mark.parametrize("count", [40, 7])
def test_frechet_distance_of_gaussians_has_its_closed_form(count: int) -> None:
    rng = np.random.default_rng(0)
    mean_a, mean_b = np.arange(5.0), np.ones(5)
    var_a, var_b = np.array([1, 4, 9, 0.5, 2]), np.array([2, 1, 3, 0.5, 7])
    a = exact_features(rng, mean_a, np.diag(var_a), count)
    b = exact_features(rng, mean_b, np.diag(var_b), count)
    wanted = ((mean_a - mean_b) ** 2).sum() + ((np.sqrt(var_a) - np.sqrt(var_b)) ** 2).sum()
    assert frechet_of(iter(a), iter(b)) == pytest.approx(wanted, rel=1e-9)
    assert frechet_of_few(a, b) == pytest.approx(wanted, rel=1e-9)
    assert frechet_distance(mean_a, np.diag(var_a), mean_b, np.diag(var_b)) == pytest.approx(wanted, rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 30), st.integers(2, 30), st.integers(2, 12))
def test_frechet_distance_equals_the_matrix_square_root(seed: int, n: int, m: int, dims: int) -> None:
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((n, dims)), rng.standard_normal((m, dims)) @ rng.standard_normal((dims, dims))
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    offset = 1e-9 * np.eye(dims)  # sqrtm wants regular matrices
    root = np.real(sqrtm((cov_a + offset) @ (cov_b + offset)))
    wanted = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_of(a, b) == pytest.approx(wanted, rel=1e-2, abs=1e-2)
    assert frechet_of(a[::-1], b) == pytest.approx(frechet_of(a, b), rel=1e-5, abs=1e-5)
    assert frechet_of_few(a, b) == pytest.approx(frechet_of(a, b), rel=1e-5, abs=1e-5)
    assert frechet_of(a, a) == pytest.approx(0, abs=1e-4)


def test_streamed_moments_equal_numpys() -> None:
    rows = np.random.default_rng(1).standard_normal((50, 4)) + 100
    gaussian = Gaussian()
    for part in np.array_split(rows, 7):
        gaussian.add(part)
    np.testing.assert_allclose(gaussian.mean, rows.mean(0))
    np.testing.assert_allclose(gaussian.covariance, np.cov(rows, rowvar=False), atol=1e-9)
    with pytest.raises(GCFSRError, match="at least two"):
        frechet_of(rows[:1], rows)


def test_training_has_the_same_frechet_distance() -> None:
    training = pytest.importorskip("gcfsr_arch.training.metrics")
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((30, 8)), rng.standard_normal((40, 8)) * 2
    assert frechet_of(a, b) == pytest.approx(training.frechet_distance(a, b), rel=1e-6)
