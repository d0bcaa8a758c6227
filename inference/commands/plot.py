"""`gcfsr plot RUN...`: losses and metrics of runs in one image, as Fig. 2 draws FID against iterations."""

import argparse
import os
from pathlib import Path
from typing import Any

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.console import note

Curve = tuple[list[int], list[float]]  # iterations, values
EXAMPLES = """
gcfsr plot experiments/a experiments/b
gcfsr plot experiments/a --metric psnr fid --loss l_g_pix --smooth 0.9 -o curves.pdf
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Runs, what to draw and where to."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder (experiments/NAME) or its metrics.jsonl")
    parser.add_argument("-o", "--output", default="curves.png", help="image to write: .png, .pdf or .svg")
    parser.add_argument("--metric", nargs="*", default=None, help="metrics to draw, such as psnr or fid; bare: all")
    parser.add_argument("--loss", nargs="*", default=None, help="losses to draw, such as l_g_pix; bare: all")
    parser.add_argument("--smooth", type=float, default=0.0, metavar="0..1", help="weight of the past in loss curves")


def run(args: argparse.Namespace) -> int:
    """Writes the image; without --metric and --loss it has every metric and every loss."""
    from gcfsr_arch.training import curves

    if not 0 <= args.smooth < 1:
        raise GCFSRError(f"--smooth {args.smooth}: give a number from 0 to below 1")
    if Path(args.output).suffix not in (".png", ".pdf", ".svg"):
        raise GCFSRError(f"{args.output}: give a name that ends in .png, .pdf or .svg")
    neither = args.metric is None and args.loss is None
    wanted = {"metric": [] if neither else args.metric, "loss": [] if neither else args.loss}
    rows = {label: curves.read(place) for label, place in labels(args.runs).items()}
    panels = chosen_panels(rows, wanted, args.smooth)
    draw(panels, args.output)
    note(f"{args.output}: {', '.join(panels)} of {', '.join(rows)}")
    return 0


def labels(places: list[str]) -> dict[str, Path]:
    """A name for every run: its folder's, with more of the path where two are called the same.

    Raises:
        GCFSRError: one run is named twice.
    """
    folders = [path.parent if path.suffix == ".jsonl" else path for path in (Path(os.path.realpath(p)) for p in places)]
    if len(set(folders)) < len(folders):
        raise GCFSRError("plot: a run is named twice")
    depth = 1
    while len({folder.parts[-depth:] for folder in folders}) < len(folders):
        depth += 1
    return {"/".join(folder.parts[-depth:]): folder for folder in folders}


def chosen_panels(
    rows: dict[str, list[dict[str, Any]]], wanted: dict[str, list[str] | None], smooth: float
) -> dict[str, dict[str, Curve]]:
    """Panel title -> run -> curve, in the order metrics, losses.

    Args:
        rows: run -> rows of its metrics.jsonl.
        wanted: names under "metric" and "loss"; an empty list means all, None none.
        smooth: weight of the past in loss curves.

    Raises:
        GCFSRError: a name that no run has, or nothing to draw.
    """
    panels: dict[str, dict[str, Curve]] = {}
    for kind, names in wanted.items():
        found: dict[str, dict[str, Curve]] = {}
        for label, of_run in rows.items():
            for title, curve in curves_of(of_run, kind).items():
                found.setdefault(title, {})[label] = smoothed(curve, smooth) if kind == "loss" else curve
        for name in names or ():
            if not any(title.split(": ")[-1] == name for title in found):
                known = ", ".join(sorted(title.split(": ")[-1] for title in found)) or "none"
                raise GCFSRError(f"--{kind} {name}: no run has it; known are {known}")
        if names is not None:
            panels |= {t: c for t, c in sorted(found.items()) if not names or t.split(": ")[-1] in names}
    if not panels:
        raise GCFSRError("plot: the runs have logged nothing yet")
    return panels


def curves_of(rows: list[dict[str, Any]], kind: str) -> dict[str, Curve]:
    """Title -> curve; metrics of several validation sets are separate. Values that are not finite are omitted."""
    found: dict[str, Curve] = {}
    for row in rows:
        values = row.get("metrics" if kind == "metric" else "losses") or {}
        for name, value in values.items():
            title = f"{row.get('dataset')}: {name}" if kind == "metric" else name
            iterations, numbers = found.setdefault(title, ([], []))
            if value is not None and (not iterations or row["iter"] > iterations[-1]):
                iterations.append(row["iter"])
                numbers.append(value)
    return found


def smoothed(curve: Curve, weight: float) -> Curve:
    """Exponential average, corrected for its start."""
    total, norm, values = 0.0, 0.0, []
    for value in curve[1]:
        total, norm = weight * total + (1 - weight) * value, weight * norm + (1 - weight)
        values.append(total / norm)
    return curve[0], values


def draw(panels: dict[str, dict[str, Curve]], output: str) -> None:
    """Draws every panel with one line per run, the same colour in all, and writes the image whole.

    Raises:
        GCFSRError: matplotlib is not installed, or the file cannot be written.
    """
    from io import BytesIO

    from gcfsr_datasets.image_io import write_bytes_atomic

    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise GCFSRError("plot: needs matplotlib; install it with `pip install 'gcfsr[train]'`") from None
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(5 * columns, 3.4 * lines), layout="constrained")
    runs = list(dict.fromkeys(run for curves in panels.values() for run in curves))
    for number, (title, curves) in enumerate(panels.items()):
        axes = figure.add_subplot(lines, columns, number + 1)
        for run in curves:
            iterations, values = curves[run]
            axes.plot(
                iterations, values, color=f"C{runs.index(run)}", label=run, marker="." if len(values) < 30 else ""
            )
        axes.set(title=title, xlabel="iterations")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    content = BytesIO()
    figure.savefig(content, format=Path(output).suffix[1:], dpi=120)
    write_bytes_atomic(output, content.getvalue())
