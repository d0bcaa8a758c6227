"""`evaluate(settings, sheets)`: compares restorers and writes report.json, .csv, .md and .html."""

from pathlib import Path
from typing import Any

from gcfsr_datasets.image_io import write_bytes_atomic, write_image
from gcfsr_inference.evaluation.report.assemble import assemble
from gcfsr_inference.evaluation.report.page import html_page
from gcfsr_inference.evaluation.report.sheets import choose, sheet
from gcfsr_inference.evaluation.report.tables import condition_title
from gcfsr_inference.evaluation.report.text import csv_text, markdown
from gcfsr_inference.evaluation.run import Advance, Evaluation
from gcfsr_inference.evaluation.settings import Settings
from gcfsr_inference.evaluation.workspace import read_bgr, write_json

__all__ = ["Settings", "evaluate", "write_report"]


def evaluate(
    settings: Settings, sheets: int = 8, advance: Advance = lambda what, count, total: None, title: str = "Evaluation"
) -> dict[str, Any]:
    """Prepares inputs, restores, scores and reports; reuses the results of an earlier run of the same settings.

    Args:
        settings: see `Settings`.
        sheets: how many images get a sheet for each condition.
        advance: called with the name of the step, the number of images just finished, and the total.
        title: the report's heading.

    Returns:
        The report, as written to report.json.

    Raises:
        GCFSRError: a setting or a file is invalid; the message names it.
    """
    evaluation = Evaluation(settings, advance).run()
    report = assemble(evaluation)
    write_report(report, evaluation.space.root, make_sheets(evaluation, report, sheets), title)
    return report


def write_report(report: dict[str, Any], folder: Path, sheet_files: list[Path], title: str = "Evaluation") -> None:
    """Writes the four forms of a report into a folder."""
    write_json(folder / "report.json", report)
    write_bytes_atomic(folder / "report.csv", csv_text(report).encode())
    write_bytes_atomic(folder / "report.md", markdown(report, title).encode())
    write_bytes_atomic(folder / "report.html", html_page(report, sheet_files, title).encode())


def make_sheets(evaluation: Evaluation, report: dict[str, Any], count: int) -> list[Path]:
    """Input, methods and ground truth of some images, as JPEG files below sheets/."""
    files = []
    folder, limit = evaluation.space.root / "sheets", evaluation.settings.max_pixels
    for condition in report["conditions"] if count else ():
        for name in choose(report, count):
            low = read_bgr(evaluation.space.low(condition["input_key"], name), limit)
            columns = [(f"input {condition_title(condition)}", low)]
            for method in evaluation.methods:
                results = evaluation.results.get((method.label, condition["key"]))
                if results:
                    columns.append((method.label, read_bgr(results[name], limit)))
            gt = read_bgr(evaluation.gt[name], limit)
            side = min(max(gt.shape[0], 192), 384)
            folder.mkdir(exist_ok=True)
            files.append(folder / f"{condition['key']}_{name}.jpg")
            write_image(files[-1], sheet([*columns, ("ground truth", gt)], side), quality=92)
    return files
