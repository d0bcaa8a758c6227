"""Scores results in batches, in this process or in workers, and stores the values as JSON lines."""

import io
import json
import math
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.image_io import MAX_PIXELS, write_bytes_atomic
from gcfsr_inference.documents import Name, Part, Sha256
from gcfsr_inference.evaluation.workspace import Workspace, read_bgr
from gcfsr_inference.restore.hashes import file_hash
from gcfsr_measure.catalogue import entry_of, measure_of
from gcfsr_measure.measures import Case


@dataclass(frozen=True)
class Planned:
    """A metric that can be computed: its key, its weights, and an id made of both."""

    key: str
    weights: Path | None
    device: str
    id: str

    @property
    def of_set(self) -> bool:
        return entry_of(self.key).of_set


@dataclass(frozen=True)
class Task:
    """Images of one method and condition to score: (name, ground truth, result, LR image)."""

    images: tuple[tuple[str, Path, Path, Path], ...]
    plan: tuple[Planned, ...]
    root: Path
    blind: bool = False
    max_pixels: int = MAX_PIXELS


@dataclass
class Scored:
    """The values of one image by metric id (None: not defined), or why it is excluded."""

    name: str
    digest: str = ""
    values: dict[str, float | None] = field(default_factory=dict)
    fault: str | None = None


def score(task: Task) -> list[Scored]:
    """Reads and measures the images of a task; features of set metrics go to files named by the image's hash."""
    scored = [Scored(name) for name, *_ in task.images]
    cases: list[tuple[Scored, Case]] = []
    for entry, (_, gt_path, result_path, low_path) in zip(scored, task.images, strict=True):
        gt = read_bgr(gt_path, task.max_pixels)
        try:
            result = read_bgr(result_path, task.max_pixels)
        except GCFSRError as error:
            entry.fault = str(error)
            continue
        entry.digest = file_hash(result_path)
        entry.fault = size_fault(result.shape, gt.shape)
        if entry.fault is None:
            cases.append((entry, Case(gt, result, read_bgr(low_path, task.max_pixels), task.blind)))
    for planned in task.plan if cases else ():
        values = measure_of(planned.key, planned.weights, planned.device)([case for _, case in cases])
        for (entry, _), value in zip(cases, values, strict=True):
            if planned.of_set:
                _save_features(Workspace(task.root).features(planned.id, entry.digest), np.asarray(value))
            else:
                entry.values[planned.id] = None if value is None else float(value)
    return scored


def size_fault(shape: tuple[int, ...], gt: tuple[int, ...]) -> str | None:
    """One line if a result's size is not the ground truth's, else None."""
    if shape == gt:
        return None
    return f"is {shape[1]}x{shape[0]}, the ground truth is {gt[1]}x{gt[0]}"


def _save_features(path: Path, row: np.ndarray) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        np.save(buffer, row.astype(np.float32))
        write_bytes_atomic(path, buffer.getvalue())


def load_features(path: Path) -> np.ndarray:
    """(D,) float32 features that `score` has saved.

    Raises:
        GCFSRError: the file is damaged.
    """
    try:
        with path.open("rb") as file:
            row = np.lib.format.read_array(file, allow_pickle=False)
            if row.ndim != 1 or row.dtype != np.float32 or file.read(1):
                raise ValueError("not (D,) float32")
            return row
    except (ValueError, EOFError, MemoryError, tokenize.TokenError) as error:  # the last: numpy parses the header
        raise GCFSRError(f"{path}: not features of an image; remove it, they will be computed again") from error


def encode(value: float | None) -> float | str | None:
    """A value for JSON, which has no infinity and no NaN: they become strings."""
    return value if value is None or math.isfinite(value) else str(value)


def decode(value: float | str | None) -> float | None:
    """The inverse of `encode`."""
    return None if value is None else float(value)


class _Line(Part):
    """A stored line: an image's name, the hash of its result, and values as `encode` makes them."""

    name: Name
    sha256: Sha256
    values: dict[Name, float | Literal["inf", "-inf", "nan"] | None]


class Values:
    """The stored values of one method and condition, one line per image. A damaged line is ignored: its image is scored
    again."""

    def __init__(self, path: Path):
        self.path = path
        self.lines: dict[str, Scored] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                self._take(line)

    def _take(self, line: str) -> None:
        try:
            record = _Line.model_validate(json.loads(line))
        except (ValueError, RecursionError):
            return
        values = {metric: decode(value) for metric, value in record.values.items()}
        known = self.lines.get(record.name)
        if known and known.digest == record.sha256:
            values = {**known.values, **values}
        self.lines[record.name] = Scored(record.name, record.sha256, values)

    def missing(self, name: str, plan: Iterable[Planned], digest: str, root: Workspace) -> bool:
        """True if a metric of the plan has no value for this image, compared by its hash."""
        known = self.lines.get(name)
        if known is None or known.digest != digest:
            return True
        return any(not root.features(p.id, digest).exists() if p.of_set else p.id not in known.values for p in plan)

    def add(self, scored: Iterable[Scored]) -> None:
        """Appends images without a fault."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        cut = self.path.exists() and self.path.read_bytes()[-1:] not in (b"\n", b"")
        with self.path.open("a") as file:
            if cut:
                file.write("\n")
            for entry in scored:
                if entry.fault is None:
                    values = {metric: encode(value) for metric, value in entry.values.items()}
                    line = json.dumps({"name": entry.name, "sha256": entry.digest, "values": values}, allow_nan=False)
                    file.write(line + "\n")
                    self._take(line)
