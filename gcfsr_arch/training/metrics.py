"""The metrics of `gcfsr_measure` under BasicSR's names: validation and `gcfsr evaluate` give the same values.

Images are BGR uint8 (H, W, 3). The pure part knows no BasicSR.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.training.options import validated
from gcfsr_arch.training.options.metrics import CATALOGUE, Identity, Lpips, Metric, Niqe, OtherMetric, PixelMetric
from gcfsr_arch.training.options.schema import Val
from gcfsr_measure.catalogue import Entry, entry_of, measure_of
from gcfsr_measure.frechet import frechet_distance
from gcfsr_measure.measures import Case

THEIRS = ("calculate_psnr", "calculate_ssim", "calculate_niqe")  # names of BasicSR's own, which give the same values
OURS = tuple(name for name in CATALOGUE if name not in THEIRS)

Value = float | np.ndarray | str  # a number, (2 D,) features of result and ground truth, or why it is missing


@dataclass(frozen=True)
class Wanted:
    """A metric that a run computes: its key in the catalogue, its weights, pixels cut from each side."""

    key: str
    weights: Path | None = None
    crop: int = 0

    @property
    def entry(self) -> Entry:
        """Its entry in the catalogue."""
        return entry_of(self.key)


def wanted_metrics(val: dict[str, Any] | None) -> dict[str, Wanted | None]:
    """The metrics of a block `val`; None for one that only BasicSR's registry computes.

    Raises:
        GCFSRError: a fault of the block, or a file of weights that is missing; names the key.
    """
    sections = validated(Val, val, "val").metrics or {}
    return {name: wanted(section, f"val.metrics.{name}") for name, section in sections.items()}


def wanted(section: Metric | OtherMetric, place: str) -> Wanted | None:
    """One of `wanted_metrics`; `place` is its block."""
    if isinstance(section, OtherMetric) or (isinstance(section, Niqe) and section.convert_to == "gray"):
        return None
    key = CATALOGUE[section.type]
    if isinstance(section, PixelMetric | Niqe):
        y = isinstance(section, PixelMetric) and section.test_y_channel
        return Wanted(key + ("-y" if y else ""), None, section.crop_border)
    path = Path(section.weights).expanduser()
    if not path.is_file():
        raise GCFSRError(f"{place}.weights: {path} is not a file; correct it or remove the metric")
    if isinstance(section, Lpips) and section.net != "alex":
        key = f"{key}-{section.net}"
    if isinstance(section, Identity):
        key = f"cosine:{path}" + (f"?norm={section.norm}" if section.norm else "")
    return Wanted(key, path, section.crop_border)


def measured(metric: Wanted, cases: Sequence[Case], device: str = "cpu") -> list[Value]:
    """One metric of several images; or the reason if there is no number. Never raises: the run continues."""
    try:
        measure = measure_of(metric.key, metric.weights, device)
        cut = [cropped(case, metric.crop) for case in cases]
        values = measure(cut)
        if metric.entry.of_set:
            gts = measure([replace(case, result=case.gt) for case in cut])
            return [np.concatenate(pair) for pair in zip(values, gts, strict=True)]  # type: ignore[arg-type]
    except Exception as error:  # noqa: BLE001 - a metric may raise anything
        if len(cases) > 1:  # the others may have a value
            return [value for case in cases for value in measured(metric, [case], device)]
        return [f"failed ({type(error).__name__}: {error})"]
    undefined = f"not defined ({metric.entry.undefined})"
    return [undefined if value is None else value for value in values]


def cropped(case: Case, border: int) -> Case:
    """The case without `border` pixels at each side of result and ground truth."""
    if not border:
        return case
    inner = slice(border, -border)
    return replace(case, result=case.result[inner, inner], gt=case.gt[inner, inner])


def frechet_of_pairs(pairs: Sequence[np.ndarray]) -> float:
    """`frechet_distance` of (2 D,) rows: features of result and ground truth side by side.

    Raises:
        GCFSRError: fewer than two rows.
    """
    results, gts = zip(*(np.split(row, 2) for row in pairs), strict=True)
    return frechet_distance(results, gts)


def _registered(name: str) -> Callable[..., float]:
    """The metric as BasicSR's own models call it, an image at a time."""

    def calculate(img: np.ndarray, img2: np.ndarray, **options: Any) -> float:
        metric = wanted_metrics({"metrics": {name: {"type": name, **options}}})[name]
        assert metric is not None
        if metric.entry.of_set:
            raise GCFSRError(f"{name}: is a distance between whole sets, which only gcfsr's models compute")
        case = cropped(Case(img2, img, img2, blind=True), metric.crop)
        return float(measure_of(metric.key, metric.weights, "cpu")([case])[0])  # type: ignore[arg-type]

    calculate.__name__ = calculate.__qualname__ = name
    calculate.__doc__ = f"{name}(img, img2, weights=...): see docs/training.md, Validation."
    return calculate


METRICS = tuple(_registered(name) for name in OURS)
