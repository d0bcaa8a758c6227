"""Makes the report, a dict for JSON, from an evaluation."""

import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from gcfsr_inference.evaluation.conditions import CELEBA_TEST
from gcfsr_inference.evaluation.report.groups import make_groups
from gcfsr_inference.evaluation.run import Evaluation
from gcfsr_inference.evaluation.score import Planned, encode, load_features
from gcfsr_inference.evaluation.settings import Settings
from gcfsr_inference.evaluation.workspace import combined_hash
from gcfsr_measure.frechet import RELIABLE, frechet_distance

FORMAT = "gcfsr-evaluation-2"
PACKAGES = (
    "gcfsr", "torch", "torchvision", "numpy", "scipy", "opencv-python", "pillow", "basicsr", "lpips", "torch-fidelity",
    "facexlib", "onnxruntime", "spandrel",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of the packages that the numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def assemble(evaluation: Evaluation) -> dict[str, Any]:
    """The report of an evaluation. It has no paths of the machine: files are given by name and hash."""
    settings, names = evaluation.settings, evaluation.names
    conditions = settings.protocol.conditions
    input_files = {
        key: {name: evaluation.space.low(key, name) for name in names}
        for key in dict.fromkeys(condition.input_key for condition in conditions)
    }
    groups = make_groups(settings.groups, evaluation.gt, names, settings.max_pixels)
    return {
        "format": FORMAT,
        "protocol": settings.protocol.name,
        "published": settings.protocol.published,
        "differs": differences(settings),
        "seed": settings.seed,
        "out_size": settings.size,
        "blind": asdict(settings.blind) if settings.is_blind else None,
        "versions": versions(),
        "conditions": [condition.as_dict() for condition in conditions],
        "images": {name: evaluation.sources[name] for name in names},
        "gt_sha256": combined_hash({name: evaluation.gt[name] for name in names}),
        "input_sha256": {key: combined_hash(files) for key, files in input_files.items()},
        "groups": groups,
        "excluded": evaluation.excluded,
        "methods": [
            {
                "label": method.label,
                "identity": method.identity,
                "absent": {key: why for (label, key), why in evaluation.absent.items() if label == method.label},
            }
            for method in evaluation.methods
        ],
        "metrics": evaluation.metrics,
        "values": image_values(evaluation, names),
        "set_values": set_values(evaluation, groups),
        "readings": readings(evaluation),
    }


def differences(settings: Settings) -> list[str]:
    """How the ground truth or the inputs differ from the published table's, whose rows are then omitted."""
    protocol, found = settings.protocol, []
    if protocol.published and settings.size != protocol.out_size:
        size, wanted = settings.size, protocol.out_size
        found.append(f"the ground truth is {size}x{size}, not {wanted}x{wanted}")
    if protocol.published and settings.is_blind and settings.blind != CELEBA_TEST:
        found.append("the ranges of the blind degradation are not CelebA-Test's")
    return found


def image_values(evaluation: Evaluation, names: Sequence[str]) -> dict[str, Any]:
    """method -> condition -> metric -> image -> value (None: not defined)."""
    tree: dict[str, Any] = {}
    for (label, condition), values in evaluation.values.items():
        tree.setdefault(label, {})[condition] = {
            planned.key: {name: encode(values.lines[name].values[planned.id]) for name in names}
            for planned in evaluation.plan
            if not planned.of_set
        }
    return tree


def readings(evaluation: Evaluation) -> dict[str, Any]:
    """method -> condition of the evaluation -> condition of the network -> the errors of its estimator."""
    tree: dict[str, Any] = {}
    for (label, condition), reading in evaluation.readings.items():
        tree.setdefault(label, {})[condition] = {name: errors(**columns) for name, columns in reading.items()}
    return tree


def errors(true: Sequence[float], read: Sequence[float], deviation: Sequence[float]) -> dict[str, float | None]:
    """How well one condition is estimated over images.

    Returns:
        correlation: Spearman's, of ranks; None where either does not vary. error: mean absolute; constant: that of
        always naming the true mean; within: share of images whose error is within one deviation.
    """
    wanted, found = np.array(true), np.array(read)
    varies = min(np.ptp(wanted), np.ptp(found)) > 0
    off = np.abs(found - wanted)
    return {
        "correlation": float(np.corrcoef(rankdata(wanted), rankdata(found))[0, 1]) if varies else None,
        "error": float(off.mean()),
        "constant": float(np.abs(wanted - wanted.mean()).mean()),
        "within": float((off <= np.array(deviation)).mean()),
    }


def set_values(evaluation: Evaluation, groups: dict[str, list[str]]) -> dict[str, Any]:
    """method -> condition -> metric -> group -> {value, images, note}."""
    tree: dict[str, Any] = {}
    for (label, condition), values in evaluation.values.items():
        digests = {name: entry.digest for name, entry in values.lines.items()}
        tree.setdefault(label, {})[condition] = {
            planned.key: {title: _distance(evaluation, planned, digests, members) for title, members in groups.items()}
            for planned in evaluation.plan
            if planned.of_set
        }
    return tree


def _distance(
    evaluation: Evaluation, planned: Planned, digests: dict[str, str], names: Sequence[str]
) -> dict[str, Any]:
    """The distance of a group's results from the same group's ground truth."""
    if len(names) < 2:
        return {"value": None, "images": len(names), "note": "needs at least two images"}
    gt = {name: entry.digest for name, entry in evaluation.gt_values.lines.items()}

    def rows(hashes: dict[str, str]) -> list[Path]:
        return [evaluation.space.features(planned.id, hashes[name]) for name in names]

    value = frechet_distance(map(load_features, rows(digests)), map(load_features, rows(gt)))
    note = f"{len(names)} images, fewer than {RELIABLE}: biased upwards" if len(names) < RELIABLE else ""
    return {"value": value, "images": len(names), "note": note}
