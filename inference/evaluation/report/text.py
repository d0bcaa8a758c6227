"""The report as Markdown and as CSV."""

import csv
import io
from typing import Any

from gcfsr_inference.console import counted
from gcfsr_inference.evaluation.report.tables import (
    PUBLISHED_NOTE,
    READING_HEAD,
    Cell,
    Table,
    make_tables,
    reading_tables,
    warnings,
)
from gcfsr_measure.frechet import RELIABLE


def arrow(metric: dict[str, Any]) -> str:
    """The metric's name with the direction that is better."""
    return f"{metric['name']} {'↑' if metric['better'] == 'higher' else '↓'}"


def notes(report: dict[str, Any]) -> list[str]:
    """Notes for the reader, one line each."""
    lines = []
    for metric in report["metrics"].values():
        what = [metric["note"]] if metric["note"] else []
        if metric["weights"]:
            what.append(f"weights {metric['weights']['file']}, sha256 {metric['weights']['sha256'][:16]}")
        if metric["undefined"]:
            what.append(f"not defined where {metric['undefined']}")
        lines.append(f"{metric['name']}: {'; '.join(what)}." if what else f"{metric['name']}.")
    few = min((len(members) for members in report["groups"].values()), default=0)
    if few < RELIABLE and any(metric["of_set"] for metric in report["metrics"].values()):
        lines.append(
            f"Distances between sets are of the number of images in each table's title; below {RELIABLE:,} they are "
            "biased upwards, so compare only rows of one table, never with another number of images."
        )
    lines.append("The first row is the input itself, enlarged by bicubic interpolation where it is smaller.")
    lines.append("In brackets: 95% bootstrap interval of the mean (2,000 resamples of the images).")
    if report["published"]:
        lines.append(PUBLISHED_NOTE)
    return lines


def provenance(report: dict[str, Any]) -> list[str]:
    """Where the numbers come from, one line each."""
    size = f", resized to {report['out_size']}x{report['out_size']}" if report["out_size"] else ""
    lines = [
        f"Protocol {report['protocol']}, {counted(len(report['images']), 'image')}{size}, seed {report['seed']}.",
        f"Ground truth sha256 {report['gt_sha256'][:16]}.",
        "Inputs sha256 " + ", ".join(f"{key} {digest[:16]}" for key, digest in report["input_sha256"].items()) + ".",
    ]
    if ranges := report.get("blind"):
        keys = ("factor_range", "blur_sigma", "downsample_range", "noise_range", "jpeg_range")
        given = {key: ranges[key] for key in keys if key in ranges}
        spans = [f"{key} {'none' if pair is None else '{:g} to {:g}'.format(*pair)}" for key, pair in given.items()]
        if "blur_kernel_size" in ranges:
            spans.insert(0, f"blur_kernel_size {ranges['blur_kernel_size']}")
        what = "Degradation of photographs" if "factor_range" in ranges else "Blind degradation"
        lines.append(f"{what}: {', '.join(spans)}.")
    for method in report["methods"]:
        identity = ", ".join(f"{k} {v[:16] if k == 'sha256' else v}" for k, v in method["identity"].items())
        lines.append(f"Method {method['label']}: {identity}.")
    lines.append("Versions: " + ", ".join(f"{name} {number}" for name, number in report["versions"].items()) + ".")
    return lines


def not_computed(report: dict[str, Any]) -> list[str]:
    """Requested metrics that could not be computed: one line each, with what is missing."""
    return [f"{entry['name']}: {entry['status']}" for entry in report["metrics"].values() if entry["status"] != "ok"]


def excluded_lines(report: dict[str, Any]) -> list[str]:
    """The excluded images with their reasons; the first line has the count."""
    if not report["excluded"]:
        return []
    names = {entry["name"] for entry in report["excluded"]}
    lines = [f"{counted(len(names), 'image')} excluded everywhere:"]
    for entry in report["excluded"]:
        where = f"{entry['method']} {entry['condition']}".strip()
        lines.append(f"{entry['name']} ({where}): {entry['reason']}")
    return lines


def _md_cell(cell: Cell) -> str:
    if cell.value is None:
        return cell.text
    number = {1: f"**{cell.number}**", 2: f"<u>{cell.number}</u>"}.get(cell.rank, cell.number)
    if cell.interval is None:
        return number
    low, high = (f"{side:.{cell.digits}f}" for side in cell.interval)
    return f"{number} [{low}, {high}]"


def _md_table(table: Table, metrics: dict[str, Any]) -> list[str]:
    head = ["method", *(arrow(metrics[metric]) for metric in table.metrics)]
    lines = [f"### {table.title}, {table.group} ({counted(table.images, 'image')})", ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in table.rows:
        label = f"*{row.label}*" if row.published else row.label
        lines.append("| " + " | ".join([label, *(_md_cell(row.cells[metric]) for metric in table.metrics)]) + " |")
    if table.absent:
        lines += ["", f"Without a result: {', '.join(table.absent)}."]
    return [*lines, ""]


def markdown(report: dict[str, Any], title: str = "Evaluation") -> str:
    """The report as one Markdown page."""
    lines = [f"# {title}", "", *(f"- {line}" for line in provenance(report)), ""]
    lines += ["Best in **bold**, second best <u>underlined</u>, among the methods measured here.", ""]
    lines += [f"**{line}**\n" for line in warnings(report)]
    missing = not_computed(report)
    if missing:
        lines += ["Not computed:", "", *(f"- {line}" for line in missing), ""]
    for table in make_tables(report):
        lines += _md_table(table, report["metrics"])
    for heading, rows in reading_tables(report):
        lines += [f"### {heading}", "", *(f"| {' | '.join(row)} |" for row in (READING_HEAD, ("---",) * 5, *rows)), ""]
    excluded = excluded_lines(report)
    if excluded:
        lines += ["## Excluded", "", excluded[0], "", *(f"- {line}" for line in excluded[1:]), ""]
    lines += ["## Notes", "", *(f"- {line}" for line in notes(report))]
    return "\n".join(lines) + "\n"


def csv_text(report: dict[str, Any]) -> str:
    """One line per method, condition, metric and image, and per distance between sets; empty if not defined."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["method", "condition", "metric", "group", "image", "value"])
    for label, conditions in report["values"].items():
        for condition, metrics in conditions.items():
            for metric, values in metrics.items():
                for name, value in values.items():
                    row = [label, condition, report["metrics"][metric]["name"], "", name]
                    writer.writerow([*map(cell, row), "" if value is None else value])
            for metric, groups in report["set_values"][label][condition].items():
                for group, found in groups.items():
                    row = [label, condition, report["metrics"][metric]["name"], group, ""]
                    writer.writerow([*map(cell, row), "" if found["value"] is None else found["value"]])
    return buffer.getvalue()


def cell(text: str) -> str:
    """A text that a spreadsheet does not interpret as a formula: an apostrophe goes before one."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text
