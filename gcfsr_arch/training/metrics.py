"""The metrics of `gcfsr_measure` under BasicSR's names: validation and `gcfsr evaluate` give the same values.

Images are BGR uint8 (H, W, 3). The pure part knows no BasicSR.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from gcfsr_arch.errors import GCFSRError, did_you_mean
from gcfsr_measure.catalogue import Entry, entry_of, measure_of
from gcfsr_measure.frechet import frechet_distance
from gcfsr_measure.measures import Case

THEIRS = {"calculate_psnr": "psnr", "calculate_ssim": "ssim", "calculate_niqe": "niqe"}  # BasicSR's: same values
OURS = {
    "calculate_lpips": "lpips",
    "calculate_identity": "cosine",
    "calculate_fid_gcfsr": "fid",
    "calculate_feature_distance": "squeezenet",
    "calculate_feature_frechet": "squeezenet-frechet",
}
COMMON = {"type", "better", "crop_border", "test_y_channel"}
ARGUMENTS = {  # beside these, and beside `weights` of ours
    "calculate_psnr": {"input_order"},
    "calculate_ssim": {"input_order"},
    "calculate_niqe": {"input_order", "convert_to"},
    "calculate_lpips": {"net"},
    "calculate_identity": {"norm"},
}

Value = float | np.ndarray | str  # a number, (2 D,) features of result and ground truth, or why it is missing


@dataclass(frozen=True)
class Metric:
    """A metric as an option file asks for it: its key in the catalogue, its weights, pixels cut from each side."""

    key: str
    weights: Path | None = None
    crop: int = 0

    @property
    def entry(self) -> Entry:
        """Its entry in the catalogue."""
        return entry_of(self.key)


def metric_of(options: dict[str, Any]) -> Metric | None:
    """The metric that a block of `val:metrics` asks for; None for one that only BasicSR's registry knows.

    Raises:
        GCFSRError: an unknown key, or weights or a package that are missing; names the key.
    """
    kind, crop = options["type"], options.get("crop_border", 0)
    y = options.get("test_y_channel", False)
    if kind not in THEIRS and kind not in OURS:
        return None
    known = sorted(COMMON | ARGUMENTS.get(kind, set()) | ({"weights"} if kind in OURS else set()))
    for key in options.keys() - set(known):
        hint = did_you_mean(key, known, f"remove it; {kind} takes {', '.join(known)}")
        raise GCFSRError(f"{key}: unknown key, {hint}")
    if kind in THEIRS:
        if set(options) - COMMON:
            return None  # another channel order or colour space: BasicSR's own function
        return Metric(THEIRS[kind] + ("-y" if y and kind != "calculate_niqe" else ""), None, crop)
    if not options.get("weights"):
        raise GCFSRError(f"weights: {kind} needs the path of its weights")
    path = Path(options["weights"]).expanduser()
    if not path.is_file():
        raise GCFSRError(f"weights: {path} is not a file; correct it or remove the metric")
    key = OURS[kind]
    if kind == "calculate_lpips" and options.get("net", "alex") != "alex":
        key = f"lpips-{options['net']}"
    if kind == "calculate_identity":
        key = f"cosine:{path}" + (f"?norm={options['norm']}" if options.get("norm") else "")
    metric = Metric(key, path, crop)
    for package in metric.entry.packages:
        if find_spec(package) is None:
            raise GCFSRError(f"type: {kind} needs the package {package}; pip install 'gcfsr[eval]'")
    return metric


def measured(metric: Metric, cases: Sequence[Case], device: str = "cpu") -> list[Value]:
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
        metric = metric_of({"type": name, **options})
        assert metric is not None
        if metric.entry.of_set:
            raise GCFSRError(f"{name}: is a distance between whole sets, which only gcfsr's models compute")
        case = cropped(Case(img2, img, img2, blind=True), metric.crop)
        return float(measure_of(metric.key, metric.weights, "cpu")([case])[0])  # type: ignore[arg-type]

    calculate.__name__ = calculate.__qualname__ = name
    calculate.__doc__ = f"{name}(img, img2, weights=...): see docs/training.md, Validation."
    return calculate


METRICS = tuple(_registered(name) for name in OURS)
