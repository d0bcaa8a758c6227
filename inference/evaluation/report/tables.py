"""Tables of a report without layout: means with bootstrap intervals, best and second best, published rows."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from gcfsr_inference.evaluation.report.published import INPUT_SOURCE, PUBLISHED, PUBLISHED_PROTOCOLS, SOURCE
from gcfsr_inference.evaluation.score import decode
from gcfsr_measure.statistics import bootstrap_interval

TOLERANCE = {"psnr": 0.3, "ssim": 0.02}  # between the input's values here and those of a published table


@dataclass
class Cell:
    """One number with its 95% interval, its number of images, and its rank among the measured ones (1, 2, or 0)."""

    value: float | None
    digits: int = 2
    interval: tuple[float, float] | None = None
    count: int = 0
    text: str = ""  # shown instead of a missing number
    rank: int = 0

    @property
    def number(self) -> str:
        """The number as text."""
        return self.text if self.value is None else f"{self.value:.{self.digits}f}"


@dataclass
class Row:
    """A method's cells by metric; published rows are not measured here."""

    label: str
    cells: dict[str, Cell]
    published: bool = False


@dataclass
class Table:
    """One condition and group.

    `metrics` are the columns: measured here or published. `absent` lists the methods without a row, with the reason.
    """

    title: str
    condition: str
    group: str
    images: int
    metrics: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


def make_tables(report: dict[str, Any]) -> list[Table]:
    """One table per condition and group, in that order."""
    return [
        _table(report, condition, group, names)
        for condition in report["conditions"]
        for group, names in report["groups"].items()
    ]


def condition_title(condition: dict[str, Any]) -> str:
    """The condition as a title."""
    if condition["factor"] is None:
        return "blind degradation"
    turned = condition["dial"] != condition["factor"]
    return f"{condition['factor']:g}x" + (f", dial at {condition['dial']:g}" if turned else "")


def _table(report: dict[str, Any], condition: dict[str, Any], group: str, names: list[str]) -> Table:
    key = condition["key"]
    table = Table(condition_title(condition), key, group, len(names))
    for method in report["methods"]:
        label = method["label"]
        if key in method["absent"]:
            table.absent.append(f"{label} ({method['absent'][key]})")
            continue
        cells = {metric: _cell(report, label, key, metric, group, tuple(names)) for metric in report["metrics"]}
        table.rows.append(Row(label, cells))
    _rank(table, report["metrics"])
    if group == "all":
        table.rows += published_rows(report, key)
    table.metrics = [
        metric
        for metric, entry in report["metrics"].items()
        if entry["status"] == "ok" or any(row.cells[metric].value is not None for row in table.rows)
    ]
    return table


def _cell(report: dict[str, Any], label: str, key: str, metric: str, group: str, names: tuple[str, ...]) -> Cell:
    entry = report["metrics"][metric]
    if entry["status"] != "ok":
        return Cell(None, text=entry["status"].partition(":")[0])  # "no weights"; the notes say which
    if entry["of_set"]:
        found = report["set_values"][label][key][metric][group]
        return Cell(found["value"], entry["digits"], None, found["images"], text=found["note"])
    given = report["values"][label][key][metric]
    values = [value for name in names if (value := decode(given[name])) is not None]
    if not values:
        return Cell(None, text="not defined")
    return Cell(float(np.mean(values)), entry["digits"], _interval(tuple(values)), len(values))


@lru_cache(maxsize=4096)
def _interval(values: tuple[float, ...]) -> tuple[float, float] | None:
    return bootstrap_interval(np.array(values))


def _rank(table: Table, metrics: dict[str, Any]) -> None:
    """Ranks the best and second best of the measured numbers; equal numbers share a rank."""
    for metric, entry in metrics.items():
        cells = [row.cells[metric] for row in table.rows if row.cells[metric].value is not None]
        if len(cells) < 2:
            continue
        distinct = sorted({float(cell.number) for cell in cells}, reverse=entry["better"] == "higher")
        for cell in cells:
            position = distinct.index(float(cell.number))
            cell.rank = position + 1 if position < 2 else 0


def published_rows(report: dict[str, Any], key: str) -> list[Row]:
    """The paper's rows for this condition and the report's metrics; empty if the protocol differs."""
    name = report["published"]
    if not name or report["differs"]:
        return []
    table, about, rows = PUBLISHED[name].get(key, {}), PUBLISHED_PROTOCOLS[name], []
    for method, numbers in table.items():
        cells = {
            metric: Cell(numbers.get(metric), entry["digits"], text="" if metric in numbers else "-")
            for metric, entry in report["metrics"].items()
        }
        rows.append(Row(f"{method} (published: {about.title}, {about.data})", cells, published=True))
    return rows


PUBLISHED_NOTE = (
    f"Rows marked (published) are numbers printed in {SOURCE}: other images (CelebA-HQ), other programs; "
    "they are not measured here and are not ranked. The paper does not say which network its LPIPS uses."
)


def warnings(report: dict[str, Any]) -> list[str]:
    """Why published rows are omitted, or not comparable with those measured here: one line each."""
    name = report["published"]
    if not name:
        return []
    about = PUBLISHED_PROTOCOLS[name]
    if report["differs"]:
        return [f"The published rows ({about.title}, {about.data}) are omitted: {'; '.join(report['differs'])}."]
    found, count = [], len(report["images"])
    if about.images and count != about.images:
        found.append(f"{count} images were measured, the published rows are of {about.images:,}; FID depends on it")
    for key, wanted in about.input.items():
        for metric, value in wanted.items():
            given = _input_mean(report, key, metric)
            if given is not None and abs(given - value) > TOLERANCE[metric]:
                digits = report["metrics"][metric]["digits"]
                found.append(
                    f"the input's {report['metrics'][metric]['name']} is {given:.{digits}f}, "
                    f"that of the published rows {value:.{digits}f} (not confirmed: quoted from memory of "
                    f"{INPUT_SOURCE}): another degradation or other images"
                )
    start = f"The published rows ({about.title}, {about.data}) cannot be compared with the others"
    return [f"{start}: {reason}." for reason in found]


def _input_mean(report: dict[str, Any], key: str, metric: str) -> float | None:
    """The mean of a metric over the row of the input, which is the first."""
    label = next((m["label"] for m in report["methods"] if m["identity"].get("kind") == "bicubic"), None)
    given = report["values"].get(label, {}).get(key, {}).get(metric, {})
    values = [value for value in map(decode, given.values()) if value is not None]
    return float(np.mean(values)) if values else None


READING_HEAD = ("condition", "rank correlation", "mean absolute error", "that of the mean", "within a deviation")


def reading_tables(report: dict[str, Any]) -> list[tuple[str, list[tuple[str, ...]]]]:
    """How well networks estimate the conditions: title and rows of text under `READING_HEAD`, one for each network."""
    found = []
    for label, conditions in report["readings"].items():
        for reading in conditions.values():
            rows = [
                (name, *("not defined" if one[key] is None else f"{one[key]:.3f}" for key in ("correlation", "error",
                 "constant")), f"{one['within']:.0%}")
                for name, one in reading.items()
            ]  # fmt: skip
            found.append((f"What {label} reads of the conditions, in [0, 1]", rows))
    return found
