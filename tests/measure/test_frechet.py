"""The Frechet distance against its closed form, the matrix square root and torch-fidelity."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gcfsr_arch.errors import GCFSRError
from gcfsr_measure import frechet
from gcfsr_measure.frechet import fit, frechet_distance


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
    assert frechet_distance(iter(a), iter(b)) == pytest.approx(wanted, rel=1e-9)


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
    assert frechet_distance(a, b) == pytest.approx(wanted, rel=1e-2, abs=1e-2)
    assert frechet_distance(a[::-1], b) == pytest.approx(frechet_distance(a, b), rel=1e-9, abs=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 40), st.integers(1, 12), st.integers(1, 9))
def test_streamed_moments_equal_numpys(seed: int, count: int, dims: int, chunk: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((count, dims)) + 100
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frechet, "CHUNK", chunk)
        mean, root = fit(iter(rows))
    np.testing.assert_allclose(mean, rows.mean(0))
    np.testing.assert_allclose(root.T @ root, np.atleast_2d(np.cov(rows, rowvar=False)), atol=1e-9)


def test_one_image_has_no_covariance() -> None:
    with pytest.raises(GCFSRError, match="at least two"):
        frechet_distance(np.ones((1, 4)), np.ones((5, 4)))


@pytest.mark.parametrize(("n", "m", "dims"), [(60, 50, 8), (9, 12, 40)])
def test_it_is_torch_fidelitys_distance(n: int, m: int, dims: int) -> None:
    theirs = pytest.importorskip("torch_fidelity.metric_fid")
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((n, dims)), rng.standard_normal((m, dims)) * 2 + 0.3
    moments = [theirs.fid_features_to_statistics(torch.from_numpy(rows)) for rows in (a, b)]
    wanted = theirs.fid_statistics_to_metric(*moments, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(a, b) == pytest.approx(wanted, rel=1e-6)
