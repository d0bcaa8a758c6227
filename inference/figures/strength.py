"""Fig. 5: one face over the dial, the best setting framed by a chosen metric."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from gcfsr_inference.evaluation.report.sheets import enlarge, stack, with_label
from gcfsr_inference.evaluation.workspace import write_json
from gcfsr_inference.figures.common import Image, make_low, save_image
from gcfsr_inference.restore.restorer import Restorer
from gcfsr_measure.catalogue import Entry
from gcfsr_measure.measures import Case, Measure

YELLOW = (0, 220, 255)  # BGR, the paper's frame


def best_index(values: Sequence[Any], higher: bool) -> int | None:
    """The index of the best number (None: not defined), or None if none is defined."""
    defined = [(value if higher else -value, -index) for index, value in enumerate(values) if value is not None]
    return -max(defined)[1] if defined else None


def frame(image: Image, width: int = 4) -> Image:
    """A copy with a yellow border inside."""
    shown = image.copy()
    cv2.rectangle(shown, (0, 0), (shown.shape[1] - 1, shown.shape[0] - 1), YELLOW, 2 * width - 1)
    return shown


def strength(
    restorer: Restorer,
    faces: dict[str, Image],
    factors: Sequence[float],
    dials: Sequence[float],
    metric: tuple[Entry, Measure],
    out: Path,
    seed: int = 0,
) -> list[Path]:
    """Writes fig5_NAME.png for each face, a row for each input factor, and fig5.json with the values.

    Args:
        restorer: a generator with a dial.
        faces: ground truth images at the network's size.
        factors: true factors of the inputs, one row each.
        dials: factors that the dial is set to, one column each.
        metric: its entry and measure.
        out: folder.
        seed: seed of the fixed noise.
    """
    entry, measure = metric
    side, values, files = max(restorer.out_size, 128), {}, []
    for name, gt in faces.items():
        rows = []
        for factor in factors:
            low = make_low(gt, factor)
            results = restorer.restore_at(low, dials, seed=seed)
            scores = measure([Case(gt, result, low) for result in results])
            best = best_index(scores, entry.higher)
            values[f"{name} x{factor:g}"] = {
                "dials": list(dials), entry.name: scores, "best": None if best is None else dials[best],
            }  # fmt: skip
            cells = [with_label(enlarge(low, side), f"input {factor:g}x")]
            for index, (dial, result, score) in enumerate(zip(dials, results, scores, strict=True)):
                shown = enlarge(result, side)
                text = "-" if score is None else f"{score:.{entry.digits}f}"
                cells.append(with_label(frame(shown) if index == best else shown, f"s={dial:.3g}: {text}"))
            cells.append(with_label(enlarge(gt, side), "ground truth"))
            rows.append(cv2.hconcat([cv2.copyMakeBorder(c, 0, 0, 0, 4, 0, value=(255, 255, 255)) for c in cells]))
        files.append(save_image(out / f"fig5_{name}.png", stack(rows)))
    write_json(out / "fig5.json", values)
    return [*files, out / "fig5.json"]
