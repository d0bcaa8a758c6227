"""Fig. 5: one face over a dial, the best setting framed by a chosen metric."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from gcfsr_datasets.degradation.photograph import Wear
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


@dataclass(frozen=True)
class Worn:
    """A degradation whose dial turns instead of the factor's.

    Attributes:
        name: of the network's condition.
        wear: of the inputs, only by that degradation.
    """

    name: str
    wear: Wear


def strength(
    restorer: Restorer,
    faces: dict[str, Image],
    factors: Sequence[float],
    dials: Sequence[float],
    metric: tuple[Entry, Measure],
    out: Path,
    seed: int = 0,
    worn: Worn | None = None,
) -> list[Path]:
    """Writes fig5_NAME.png for each face, a row for each input factor, and fig5.json with the values.

    Args:
        restorer: a generator with a dial.
        faces: ground truth images at the network's size.
        factors: true factors of the inputs, one row each.
        dials: settings of the dial, one column each: factors, or strengths in [0, 1] of the condition that is `worn`.
        metric: its entry and measure.
        out: folder.
        seed: seed of the fixed noise.
        worn: the dial of another condition turns, at the true factor and with the rest at 0; the files are then
            fig5_NAME_CONDITION.png and fig5_CONDITION.json.
    """
    entry, measure = metric
    side, values, files = max(restorer.out_size, 128), {}, []
    dial_name, ending = ("s", "") if worn is None else (worn.name, f"_{worn.name}")
    none = dict.fromkeys(restorer.conditions[1:], 0.0)
    for name, gt in faces.items():
        rows = []
        for factor in factors:
            low = make_low(gt, factor, worn and worn.wear)
            if worn is None:
                results = restorer.restore_at(low, dials, seed=seed)
            else:
                turned = [{**none, worn.name: dial} for dial in dials]
                results = [restorer.restore_at(low, [factor], seed=seed, dials=one)[0] for one in turned]
            scores = measure([Case(gt, result, low) for result in results])
            best = best_index(scores, entry.higher)
            values[f"{name} x{factor:g}"] = {
                "dials": list(dials), entry.name: scores, "best": None if best is None else dials[best],
            }  # fmt: skip
            cells = [with_label(enlarge(low, side), f"input {factor:g}x")]
            for index, (dial, result, score) in enumerate(zip(dials, results, scores, strict=True)):
                shown = enlarge(result, side)
                text = "-" if score is None else f"{score:.{entry.digits}f}"
                cells.append(with_label(frame(shown) if index == best else shown, f"{dial_name}={dial:.3g}: {text}"))
            cells.append(with_label(enlarge(gt, side), "ground truth"))
            rows.append(cv2.hconcat([cv2.copyMakeBorder(c, 0, 0, 0, 4, 0, value=(255, 255, 255)) for c in cells]))
        files.append(save_image(out / f"fig5_{name}{ending}.png", stack(rows)))
    write_json(out / f"fig5{ending}.json", values)
    return [*files, out / f"fig5{ending}.json"]
