"""Significant differences between two methods, in one report or in two over the same inputs."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter, model_validator

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.documents import Name, Number, Part, read_document
from gcfsr_inference.evaluation.methods import INPUT
from gcfsr_inference.evaluation.report.assemble import FORMAT
from gcfsr_inference.evaluation.score import decode
from gcfsr_measure.statistics import holm, paired_test

LEVEL = 0.05


class _Metric(Part):
    name: str
    better: Literal["higher", "lower"]


class _Report(Part):
    """The parts of a report that a comparison reads."""

    format: str
    seed: int
    out_size: int | None
    images: dict[Name, str]
    input_sha256: dict[str, str]
    metrics: dict[str, _Metric]
    values: dict[str, dict[str, dict[str, dict[Name, Number | Literal["inf", "-inf", "nan"] | None]]]]

    @model_validator(mode="after")
    def _complete(self) -> "_Report":
        if self.format != FORMAT:
            raise ValueError(f"its format is {self.format!r}")
        for conditions in self.values.values():
            for condition, metrics in conditions.items():
                if condition.partition("@")[0] not in self.input_sha256 or not metrics.keys() <= self.metrics.keys():
                    raise ValueError(f"the condition {condition} has no inputs, or metrics that are not listed")
        return self


def load_report(path: str | Path) -> dict[str, Any]:
    """Reads report.json.

    Raises:
        GCFSRError: the file is not a report of `gcfsr evaluate`.
    """
    return read_document(path, TypeAdapter(_Report), f"a report of `gcfsr evaluate` ({FORMAT})").model_dump()


def pairs_of(a: dict[str, Any], b: dict[str, Any], pairs: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """Labels to compare: the given pairs, or every label that both reports have.

    Raises:
        GCFSRError: a label is in none, or no label is in both.
    """
    for pair in pairs:
        for label, report in zip(pair, (a, b), strict=True):
            if label not in report["values"]:
                raise GCFSRError(f"--pair {label}: not in that report; it has {', '.join(report['values'])}")
    if pairs:
        return [(first, second) for first, second in pairs]
    both = [label for label in a["values"] if label in b["values"] and label != INPUT]
    if not both:
        raise GCFSRError("--compare: the reports share no method; name one of each with --pair A B")
    return [(label, label) for label in both]


def compare(a: dict[str, Any], b: dict[str, Any], pairs: Sequence[Sequence[str]] = ()) -> list[dict[str, Any]]:
    """Paired tests over the images that both reports have, for every shared condition and metric.

    Args:
        a, b: the reports.
        pairs: labels of a method in a and one in b; without any, every label that both have.

    Returns:
        One dict for each comparison: methods, condition, metric, count, difference (b - a), interval, p,
        p_adjusted (Holm over all of them), verdict.

    Raises:
        GCFSRError: the degraded inputs of a shared condition differ, or nothing can be compared.
    """
    found = []
    for label_a, label_b in pairs_of(a, b, pairs):
        shared = [key for key in a["values"][label_a] if key in b["values"][label_b]]
        for key in shared:
            _same_inputs(a, b, key)
            for metric in a["values"][label_a][key]:
                if metric in b["values"][label_b][key]:
                    found.append(_one(a, b, (label_a, label_b), key, metric))
    found = [entry for entry in found if entry["count"]]
    if not found:
        raise GCFSRError("--compare: the reports share no condition with a metric")
    for entry, p in zip(found, holm([entry["p"] for entry in found]), strict=True):
        entry["p_adjusted"] = p
        better = (entry["difference"] > 0) == (entry["better"] == "higher")
        entry["verdict"] = ("better" if better else "worse") if p < LEVEL else "no significant difference"
    return found


def _same_inputs(a: dict[str, Any], b: dict[str, Any], key: str) -> None:
    shared = [name for name in a["images"] if name in b["images"]]
    changed = [name for name in shared if a["images"][name] != b["images"][name]]
    settings = [field for field in ("seed", "out_size") if a[field] != b[field]]
    if changed or settings or not shared:
        what = settings[0] if settings else (changed or ["no image in common"])[0]
        raise GCFSRError(f"--compare: {key}: the inputs are not the same ({what}); evaluate both on the same images")
    inputs_key = key.partition("@")[0]
    if list(a["images"]) == list(b["images"]) and a["input_sha256"][inputs_key] != b["input_sha256"][inputs_key]:
        raise GCFSRError(f"--compare: {key}: the degraded inputs differ; evaluate both with the same version")


def _one(a: dict[str, Any], b: dict[str, Any], labels: tuple[str, str], key: str, metric: str) -> dict[str, Any]:
    values_a, values_b = a["values"][labels[0]][key][metric], b["values"][labels[1]][key][metric]
    numbers = [(decode(values_a[name]), decode(values_b[name])) for name in values_a if name in values_b]
    defined = [(x, y) for x, y in numbers if x is not None and y is not None]
    test = paired_test(np.array([x for x, _ in defined]), np.array([y for _, y in defined]))
    entry = a["metrics"][metric]
    return {
        "a": labels[0], "b": labels[1], "condition": key, "metric": entry["name"], "better": entry["better"],
        **asdict(test),
    }  # fmt: skip


def comparison_text(found: list[dict[str, Any]]) -> str:
    """A Markdown table of the comparisons."""
    lines = [
        "| condition | metric | a | b | b - a (95%) | images | p (Holm) | b is |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for entry in found:
        interval = "" if entry["interval"] is None else " [{:+.4g}, {:+.4g}]".format(*entry["interval"])
        lines.append(
            f"| {entry['condition']} | {entry['metric']} | {entry['a']} | {entry['b']} | {entry['difference']:+.4g}"
            f"{interval} | {entry['count']} | {entry['p_adjusted']:.2g} | {entry['verdict']} |"
        )
    note = "Paired Wilcoxon signed-rank test over images, two-sided; p adjusted by Holm over all rows, level 0.05."
    return "\n".join([*lines, "", note]) + "\n"
