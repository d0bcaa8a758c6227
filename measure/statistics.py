"""Bootstrap intervals and paired tests, reproducible from a seed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000


def bootstrap_interval(values: NDArray, seed: int = 0, level: float = 0.95) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the mean.

    Args:
        values: (N,) finite values, one per image.
        seed: seed of the resampling.
        level: coverage.

    Returns:
        (low, high), or None for fewer than two values or a value that is not finite.
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    from scipy.stats import bootstrap  # takes a second to import

    found = bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, batch=RESAMPLES // 10, confidence_level=level, method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


@dataclass(frozen=True)
class Paired:
    """b minus a over the same images: their number, the mean difference, its 95% interval, Wilcoxon's p."""

    count: int
    difference: float
    interval: tuple[float, float] | None
    p: float


def paired_test(a: NDArray, b: NDArray, seed: int = 0) -> Paired:
    """Compares two methods on the same images with Wilcoxon's signed-rank test (two-sided).

    Args:
        a: (N,) values of one method.
        b: (N,) values of the other, in the same order of images.
        seed: of the bootstrap.
    """
    from scipy.stats import wilcoxon

    finite = np.isfinite(a) & np.isfinite(b)
    difference = b[finite] - a[finite]
    if not difference.any():  # no image differs (or there is none): nothing to rank
        return Paired(len(difference), 0.0, (0.0, 0.0), 1.0)
    result: Any = wilcoxon(difference, zero_method="zsplit")
    return Paired(len(difference), float(difference.mean()), bootstrap_interval(difference, seed), float(result.pvalue))


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down correction for several comparisons: adjusted p-values in the order given."""
    order = np.argsort(p_values)
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted
