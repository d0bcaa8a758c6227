"""The control card: whether the best s is the true factor, and whether the dial is smooth and monotonic."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gcfsr_datasets.image_io import write_bytes_atomic
from gcfsr_inference.evaluation.workspace import write_json
from gcfsr_inference.figures.common import Image, in_octaves, make_low, new_figure, save_figure
from gcfsr_inference.figures.strength import best_index
from gcfsr_inference.restore.restorer import Restorer
from gcfsr_measure.catalogue import Entry
from gcfsr_measure.measures import Case, Measure
from gcfsr_measure.pixels import sharpness

STEPS = 9  # settings of the dial, evenly spaced in octaves over the checkpoint's range


def rising_share(energy: NDArray[np.float64]) -> float:
    """Monotony: the share of faces whose high-frequency energy rises at every step. (faces, steps) -> [0, 1]."""
    return float((np.diff(energy, axis=1) > 0).all(1).mean())


def step_ratio(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smoothness: each face's largest step divided by its mean step, 1 for an even dial. (faces, steps) -> (faces,)."""
    mean = steps.mean(1)
    return np.divide(steps.max(1), mean, out=np.ones_like(mean), where=mean > 0)


@dataclass
class Turned:
    """One true factor: metric and energy (faces, dials), and the steps (faces, STEPS - 1) between even settings."""

    values: NDArray[np.float64]
    energy: NDArray[np.float64]
    steps: NDArray[np.float64]


def turn_dial(
    restorer: Restorer,
    faces: dict[str, Image],
    factor: float,
    dials: Sequence[float],
    even: Sequence[int],
    measure: Measure,
) -> Turned:
    """Restores every face of a true factor at every setting of the dial; steps are between the even settings."""
    values, energy, steps = [], [], []
    for gt in faces.values():
        low = make_low(gt, factor)
        results = restorer.restore_at(low, dials)
        scores = measure([Case(gt, result, low) for result in results])
        values.append([np.nan if score is None else score for score in scores])
        energy.append([sharpness(result) for result in results])
        images = [results[index].astype(float) for index in even]
        steps.append([np.sqrt(np.mean((a - b) ** 2)) for a, b in pairwise(images)])
    return Turned(np.array(values), np.array(energy), np.array(steps))


def control_card(
    restorer: Restorer, faces: dict[str, Image], factors: Sequence[float], metric: tuple[Entry, Measure], out: Path
) -> list[Path]:
    """Writes card.png, card.md and card.json.

    Args:
        restorer: a generator with a dial.
        faces: ground truth images at the network's size.
        factors: true factors of the inputs.
        metric: its entry and measure.
        out: folder.
    """
    entry, measure = metric
    dials = sorted({*in_octaves(restorer.min_factor, restorer.max_factor, STEPS), *factors})
    even = [dials.index(dial) for dial in in_octaves(restorer.min_factor, restorer.max_factor, STEPS)]
    turned = {factor: turn_dial(restorer, faces, factor, dials, even, measure) for factor in factors}
    summary = {f"{factor:g}": summarise(factor, t, dials, entry.higher) for factor, t in turned.items()}
    ratios = step_ratio(np.concatenate([t.steps for t in turned.values()]))
    overall = {
        "monotony": rising_share(np.concatenate([t.energy[:, even] for t in turned.values()])),
        "smoothness": float(ratios.mean()),
        "smoothness_worst": float(ratios.max()),
    }
    card = {"metric": entry.name, "faces": len(faces), "dials": dials, "factors": summary, **overall}
    write_json(out / "card.json", card)
    write_bytes_atomic(out / "card.md", card_text(card).encode())
    return [save_figure(out / "card.png", _draw(card, entry)), out / "card.md", out / "card.json"]


def summarise(factor: float, turned: Turned, dials: Sequence[float], higher: bool) -> dict[str, Any]:
    """Means over faces against the dial, the best setting, and each face's distance of its best setting from it."""
    mean = [None if np.isnan(v).all() else float(np.nanmean(v)) for v in turned.values.T]
    best = best_index(mean, higher)
    own = [best_index([None if np.isnan(x) else x for x in row], higher) for row in turned.values]
    off = [abs(np.log2(dials[index] / factor)) for index in own if index is not None]
    return {
        "mean": mean,
        "best_dial": None if best is None else dials[best],
        "octaves_off": None if best is None else float(np.log2(dials[best] / factor)),
        "faces_within_one_octave": float(np.mean([octaves <= 1 + 1e-9 for octaves in off])) if off else None,
        "energy": turned.energy.mean(0).tolist(),
    }


def card_text(card: dict[str, Any]) -> str:
    """The card as Markdown."""
    lines = [
        f"# Control card ({card['faces']} faces, {card['metric']})", "",
        "| true factor | best s (as a factor) | octaves off | faces whose own best s is within one octave |",
        "|---|---|---|---|",
    ]  # fmt: skip
    for factor, row in card["factors"].items():
        if row["best_dial"] is None:
            lines.append(f"| {factor} | not defined | | |")
        else:
            share = f"{row['faces_within_one_octave']:.0%}"
            lines.append(f"| {factor} | {row['best_dial']:.3g} | {row['octaves_off']:+.2f} | {share} |")
    lines += [
        "",
        f"- Monotony: {card['monotony']:.0%} of faces and inputs gain high-frequency energy (variance of the Laplacian "
        f"of Y) at each of the {STEPS - 1} steps of a dial of {STEPS} settings, equal in octaves.",
        f"- Smoothness: the largest step is {card['smoothness']:.2f} times the mean step (RMS difference of successive "
        f"images; mean over faces and inputs; the worst has {card['smoothness_worst']:.2f}).",
    ]
    return "\n".join(lines) + "\n"


def _draw(card: dict[str, Any], entry: Entry) -> Any:
    figure = new_figure(11, 4.5)
    left, right = figure.subplots(1, 2)
    for index, (factor, row) in enumerate(card["factors"].items()):
        colour = f"C{index}"
        left.plot(card["dials"], [np.nan if v is None else v for v in row["mean"]], color=colour, label=f"{factor}x")
        left.axvline(float(factor), color=colour, linestyle=":", linewidth=1)
        if row["best_dial"] is not None:
            best = card["dials"].index(row["best_dial"])
            left.plot(row["best_dial"], row["mean"][best], "o", color=colour)
        right.plot(card["dials"], row["energy"], color=colour, label=f"{factor}x")
    left.set(xlabel="s as a factor", ylabel=f"{entry.name} ({'higher' if entry.higher else 'lower'} is better)",
             title="dots: best s; dotted: true factor")  # fmt: skip
    right.set(xlabel="s as a factor", ylabel="variance of the Laplacian of Y", title="high-frequency energy")
    for axis in (left, right):
        axis.set_xscale("log", base=2)
        axis.grid(alpha=0.3)
        axis.legend(title="true factor")
    return figure
