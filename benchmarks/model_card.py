"""The tables of docs/model-card.md: `python benchmarks/model_card.py` prints them from the reports in docs/reports.

The reports are `gcfsr evaluate`'s; its intervals are of means, and here are those of differences too. Nothing is timed.
"""

from pathlib import Path
from typing import Any

import numpy as np
from timing import table

from gcfsr_inference.evaluation.report.compare import load_report
from gcfsr_inference.evaluation.score import decode
from gcfsr_measure.statistics import RESAMPLES, bootstrap_interval

REPORTS = Path(__file__).resolve().parents[1] / "docs" / "reports"
NANO, BASE = "gcfsr-nano", "bicubic"
FORMS = {
    "psnr": ".2f", "ssim": ".3f", "consistency": ".1f", "mobilefacenet": ".3f", "squeezenet": ".3f", "sharpness": ".2f",
}  # fmt: skip
THIRDS = ("dark", "middle", "light")


def values_of(report: dict[str, Any], method: str, condition: str, metric: str, names: list[str]) -> np.ndarray:
    """(N,) a value for each image."""
    values = report["values"][method][condition][metric]
    return np.array([decode(values[name]) for name in names], dtype=float)


def gain_of(report: dict[str, Any], method: str, condition: str, metric: str, names: list[str]) -> np.ndarray:
    """(N,) the method less bicubic, an image each."""
    return values_of(report, method, condition, metric, names) - values_of(report, BASE, condition, metric, names)


def mean_text(values: np.ndarray, form: str) -> str:
    """The mean with its interval."""
    return "{} [{}, {}]".format(*(format(x, form) for x in (values.mean(), *(bootstrap_interval(values) or ()))))


def gap_text(a: np.ndarray, b: np.ndarray, form: str) -> str:
    """mean(a) - mean(b) of two groups of different images, with its 95% bootstrap interval."""
    rng = np.random.default_rng(0)
    means = [x[rng.integers(0, len(x), (2 * RESAMPLES, len(x)))].mean(1) for x in (a, b)]
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return f"{a.mean() - b.mean():{form}} [{low:{form}}, {high:{form}}]"


def means(report: dict[str, Any], group: str, metrics: list[str]) -> None:
    """Every method's means in one group."""
    names = report["groups"][group]
    print(f"### {len(names)} faces, {group}\n")
    print(table([["condition", "method", *metrics], *(
        [condition, method, *(mean_text(values_of(report, method, condition, m, names), FORMS[m]) for m in metrics)]
        for condition in report["values"][BASE] for method in report["values"]
    )]) + "\n")  # fmt: skip


def gains(report: dict[str, Any], group: str, metrics: list[str]) -> None:
    """Every method's gain over bicubic in one group."""
    names = report["groups"][group]
    print(f"### over bicubic, {group}\n")
    print(table([["condition", "method", *metrics], *(
        [condition, method, *(mean_text(gain_of(report, method, condition, m, names), "+" + FORMS[m]) for m in metrics)]
        for condition in report["values"][BASE] for method in report["values"] if method != BASE
    )]) + "\n")  # fmt: skip


def thirds(report: dict[str, Any], group: str) -> None:
    """The gains of the group's faces by thirds of all faces' luminance, and the gap between dark and light."""
    groups = report["groups"]
    parts = [[name for name in groups[f"{third} third"] if name in groups[group]] for third in THIRDS]
    counts = ", ".join(f"{len(names)} {third}" for third, names in zip(THIRDS, parts, strict=True))
    print(f"### over bicubic by face luminance, {group}: {counts}\n")
    rows = []
    for condition in report["values"][BASE]:
        row = [condition]
        for metric in ("psnr", "mobilefacenet"):
            form, found = "+" + FORMS[metric], [gain_of(report, NANO, condition, metric, names) for names in parts]
            row += [*(mean_text(gain, form) for gain in found), gap_text(found[0], found[2], form)]
        rows.append(row)
    head = ["condition", *(f"{m} {x}" for m in ("PSNR", "cosine") for x in (*THIRDS, "dark - light"))]
    print(table([head, *rows]) + "\n")


def main() -> None:
    faces, elsewhere = (load_report(REPORTS / f"{name}-128.json") for name in ("faces", "elsewhere"))
    for group in ("real", "generated"):
        means(faces, group, list(FORMS))
        gains(faces, group, ["psnr", "mobilefacenet"])
    for group in ("all", "generated"):
        thirds(faces, group)
    means(elsewhere, "all", [metric for metric in FORMS if metric != "consistency"])
    gains(elsewhere, "all", ["psnr", "mobilefacenet"])


if __name__ == "__main__":
    main()
