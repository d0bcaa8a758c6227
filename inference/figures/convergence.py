"""Fig. 2: a metric at each validation against iterations, several runs in one figure."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.evaluation.workspace import write_json
from gcfsr_inference.figures.common import new_figure, save_figure

Curve = list[tuple[int, float]]
ITERATION = re.compile(r"\biter:\s*([\d,]+)")
METRIC = re.compile(r"#\s*([\w-]+):\s*([-+\d.eE]+)\s")


def read_curve(path: Path, metric: str) -> Curve:
    """(iteration, value) of a run of ours (folder or metrics.jsonl), of BasicSR's text log, or of a two-column CSV.

    Raises:
        GCFSRError: no such file, or the metric is not in it.
    """
    if not path.exists():
        raise GCFSRError(f"{path}: no such run or log")
    if path.suffix == ".csv":
        curve = _from_csv(path)
    elif path.suffix == ".log":
        curve = _from_log(path, metric)
    else:
        from gcfsr_arch.training.curves import read

        rows = [row for row in read(path) if metric in (row.get("metrics") or {})]
        curve = [(row["iter"], row["metrics"][metric]) for row in rows]
    curve = [(int(iteration), float(value)) for iteration, value in curve if isinstance(value, int | float)]
    if not curve:
        raise GCFSRError(f"{path}: no validation with the metric {metric}")
    return curve


def _from_csv(path: Path) -> Curve:
    with path.open(newline="") as file:
        rows = [row for row in csv.reader(file) if row and row[0].strip().isdigit()]
    try:
        return [(int(row[0]), float(row[1])) for row in rows]
    except (IndexError, ValueError) as error:
        raise GCFSRError(f"{path}: a row is not 'iteration,value'") from error


def _from_log(path: Path, metric: str) -> Curve:
    """BasicSR prints the iteration with the losses, then the validation's metrics in lines of their own."""
    iteration, curve = 0, []
    for line in path.read_text(errors="replace").splitlines():
        if found := ITERATION.search(line):
            iteration = int(found[1].replace(",", ""))
        if (found := METRIC.search(line + " ")) and found[1] == metric:
            curve.append((iteration, float(found[2])))
    return curve


def convergence(runs: Sequence[str], metric: str, out: Path) -> list[Path]:
    """Writes fig2.png and fig2.json.

    Args:
        runs: [LABEL=]PATH of runs or logs.
        metric: its name in the runs' validation.
        out: folder.
    """
    curves = {}
    for text in runs:
        label, _, path = text.rpartition("=")
        curves[label or Path(path).stem] = read_curve(Path(path), metric)
    figure = new_figure(7, 4.5)
    axes = figure.subplots()
    for label, curve in curves.items():
        axes.plot(*zip(*curve, strict=True), marker="o", markersize=3, label=label)
    axes.set(xlabel="iterations", ylabel=metric)
    axes.grid(alpha=0.3)
    axes.legend()
    write_json(out / "fig2.json", {"metric": metric, "curves": curves})
    return [save_figure(out / "fig2.png", figure), out / "fig2.json"]
