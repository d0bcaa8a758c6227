"""Validation with the EMA network: batches split over the ranks, the values of one rank, failures reported.

Networks of metrics run on the device, a batch at a time; metrics of pixels in worker processes (`val:workers`), while
the next batch is restored.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import get_root_logger, tensor2img
from basicsr.utils.registry import METRIC_REGISTRY
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.training.metrics import THEIRS, Value, Wanted, frechet_of_pairs, measured, wanted_metrics
from gcfsr_arch.training.ranks import gathered
from gcfsr_arch.training.step import Batch
from gcfsr_datasets.image_io import write_bytes_atomic
from gcfsr_measure.catalogue import measure_of
from gcfsr_measure.measures import Case
from gcfsr_measure.workers import Workers

BATCH = 4  # images restored and measured at once
NO_GT = "not defined (there is no ground truth)"
NOT_FINITE = "failed (not finite)"


@dataclass(frozen=True)
class Task:
    """A restored batch: cases by their indices in the data set, metrics still to be computed, and values so far."""

    cases: dict[int, Case]
    metrics: dict[str, Wanted]
    rows: dict[int, dict[str, Value]]


def score(task: Task, device: str = "cpu") -> dict[int, dict[str, Value]]:
    """The values of a task with its metrics added: image -> metric -> value."""
    columns = {name: measured(metric, list(task.cases.values()), device) for name, metric in task.metrics.items()}
    added = {index: {name: column[i] for name, column in columns.items()} for i, index in enumerate(task.cases)}
    return {index: {**task.rows[index], **values} for index, values in added.items()}


@dataclass(frozen=True)
class View:
    """What validation sees of a model.

    Args:
        opt: BasicSR's options: `val` (metrics, batch, workers, grid, grid_factors, pbar), `path`, rank.
        device: where networks of metrics run.
        restore: (batch, s) -> restored images, (N, 3, S, S) in [-1, 1].
        feed: a data set's batch on the device.
    """

    opt: dict[str, Any]
    device: str
    restore: Callable[[Batch, Any], Tensor]
    feed: Callable[[dict[str, Any]], Batch]

    def batches(self, dataset: Dataset, batches: Sequence[range]) -> Iterator[tuple[range, dict[str, Any], Batch]]:
        """Indices, data, and the data on the device, batch by batch."""
        loader = DataLoader(dataset, batch_sampler=batches, generator=torch.Generator())
        show = self.opt["val"].get("pbar", False) and self.opt.get("rank", 0) == 0
        for indices, data in zip(batches, tqdm(loader, unit="batch", disable=not show), strict=True):
            yield indices, data, self.feed(data)


def check_metrics(opt: dict[str, Any], device: str) -> None:
    """Finds metrics that cannot run before the run begins; builds their networks, which validation then uses.

    Raises:
        GCFSRError: an unknown metric or key, weights that are missing, or another network's.
    """
    for name, metric in wanted_metrics(opt.get("val")).items():
        if metric is None and (kind := opt["val"]["metrics"][name]["type"]) not in METRIC_REGISTRY:
            raise GCFSRError(f"val.metrics.{name}.type: {kind} is not registered; see docs/training.md")
        if metric is not None and metric.entry.on_device:
            try:
                measure_of(metric.key, metric.weights, device)
            except GCFSRError as error:
                raise GCFSRError(f"val.metrics.{name}: {error}") from error


def measured_rows(view: View, dataset: Dataset, save_as: int | str | None) -> dict[int, dict[str, Value]]:
    """Image -> metric -> value, of all ranks, on all ranks.

    Args:
        view: the model.
        dataset: the validation set, split over the ranks.
        save_as: ending of the restored images' names; None writes none.
    """
    options = view.opt["val"]
    rank, world = view.opt.get("rank", 0), view.opt.get("world_size", 1)
    with Workers(options.get("workers", 0)) as workers:
        batches = chunks(len(dataset), options.get("batch", BATCH))[rank::world]
        scored = workers.map(score, tasks(view, dataset, batches, save_as))
        parts = gathered({index: row for one in scored for index, row in one.items()})
    return {index: row for part in parts for index, row in part.items()}


def tasks(view: View, dataset: Dataset, batches: Sequence[range], save_as: int | str | None) -> Iterator[Task]:
    """Restores batch by batch and computes what runs on the device; the rest is left to `score`."""
    wanted = wanted_metrics(view.opt["val"])
    ours = {name: metric for name, metric in wanted.items() if metric is not None}
    networks = {name: metric for name, metric in ours.items() if metric.entry.on_device}
    pixels = {name: metric for name, metric in ours.items() if name not in networks}
    foreign = {name: view.opt["val"]["metrics"][name] for name in wanted if name not in ours}
    folder = Path(view.opt["path"].get("visualization", "")) / dataset.opt["name"]
    for indices, data, batch in view.batches(dataset, batches):
        results = images(view.restore(batch, batch.s))
        gts = [None] * len(results) if batch.gt is None else images(batch.gt)
        if save_as is not None:
            for path, result in zip(data["lq_path"], results, strict=True):
                write_png(folder / f"{Path(path).stem}_{save_as}.png", result)
        pairs = dict(zip(indices, zip(results, gts, strict=True), strict=True))
        rows = {
            index: {name: foreign_value(pair, options) for name, options in foreign.items()}
            for index, pair in pairs.items()
        }
        if batch.gt is None:
            without = {name: NO_GT for name, metric in ours.items() if metric.entry.reference}
            rows = {index: {**row, **without} for index, row in rows.items()}
        cases = {index: Case(result if gt is None else gt, result, result) for index, (result, gt) in pairs.items()}
        possible = [name for name in ours if batch.gt is not None or not ours[name].entry.reference]
        task = Task(cases, {name: metric for name, metric in networks.items() if name in possible}, rows)
        rows = score(task, view.device)
        yield Task(cases, {name: metric for name, metric in pixels.items() if name in possible}, rows)


def reduced_rows(rows: dict[int, dict[str, Value]], metrics: dict[str, dict[str, Any]]) -> dict[str, float | str]:
    """Metric -> its value over the set, or why it is missing."""
    return {name: reduced([rows[i][name] for i in sorted(rows)], options) for name, options in metrics.items()}


def lines(values: dict[str, float | str], best: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The log's line of each metric; with BasicSR's record of the best so far where there is one."""
    for metric, value in values.items():
        record = best.get(metric)
        so_far = f"\tBest: {record['val']:.4f} @ {record['iter']} iter" if record and not isinstance(value, str) else ""
        yield f"\t # {metric}: {value if isinstance(value, str) else f'{value:.4f}'}{so_far}"


def save_grid(view: View, dataset: Dataset, net: nn.Module, current_iter: int | str, tb_logger: Any) -> None:
    """One row per face: input | restored at several s | ground truth; goes to `visualization` and TensorBoard."""
    name, rows, dials = dataset.opt["name"], [], grid_dials(net, view.opt["val"].get("grid_factors"))
    for _, _, batch in view.batches(dataset, chunks(min(view.opt["val"]["grid"], len(dataset)), 1)):
        restored = [view.restore(batch, at_dial(batch, s)) for s in dials]
        rows.append(torch.cat([batch.lq, *restored, *([] if batch.gt is None else [batch.gt])], dim=3))
    (grid,) = images(torch.cat(rows, dim=2))
    write_png(Path(view.opt["path"]["visualization"]) / f"grid_{name}_{current_iter}.png", grid)
    if tb_logger is not None:
        tb_logger.add_image(f"grid/{name}", grid[..., ::-1].copy(), current_iter, dataformats="HWC")


def grid_dials(net: nn.Module, factors: Sequence[float] | None) -> list[float | None]:
    """The dials of the grid's columns."""
    if net.blind:
        return [None]
    chosen = factors or np.geomspace(net.min_factor, net.max_factor, 5)
    return [float(factor) / net.max_factor for factor in chosen]


def at_dial(batch: Batch, s: float | None) -> Tensor | float | None:
    """The batch's conditions with another factor."""
    if s is None or batch.s is None:
        return s
    return torch.cat([torch.full_like(batch.s[:, :1], s), batch.s[:, 1:]], dim=1)


def chunks(count: int, size: int) -> list[range]:
    """0..count-1 in ranges of `size`; which images share a batch does not depend on the number of ranks."""
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def images(batch: Tensor) -> list[np.ndarray]:
    """(N, 3, H, W) RGB in [-1, 1] -> BGR uint8 images."""
    return [tensor2img(image, min_max=(-1, 1)) for image in batch]


def foreign_value(pair: tuple[np.ndarray, np.ndarray | None], options: dict[str, Any]) -> Value:
    """A metric from BasicSR's registry of (result, ground truth); or why there is no number."""
    data = {key: image for key, image in zip(("img", "img2"), pair, strict=True) if image is not None}
    defaults = {"crop_border": 0} if options["type"] in THEIRS else {}  # which BasicSR's own functions do not have
    given = {key: value for key, value in options.items() if key != "better"}
    try:
        return float(calculate_metric(data, {**defaults, **given}))
    except Exception as error:  # noqa: BLE001 - a metric may raise anything; the run continues
        return f"failed ({type(error).__name__}: {error})"


def reduced(values: Sequence[Value], options: dict[str, Any]) -> float | str:
    """The value of a set: the Frechet distance of a metric of sets, otherwise the mean.

    Images without a value are left out when others have one; when none has, the first reason is returned.
    """
    values = [value if isinstance(value, str) or np.isfinite(value).all() else NOT_FINITE for value in values]
    found = [value for value in values if not isinstance(value, str)]
    missing = [value for value in values if isinstance(value, str)]
    if not found:
        return missing[0] if missing else "not defined (no images)"
    if missing:
        left_out = f"{len(missing)} of {len(values)} images without value: {missing[0]}"
        get_root_logger().warning(f"{options['type']}: {left_out}")
    if not isinstance(found[0], np.ndarray):
        return float(np.mean(found))
    try:
        return frechet_of_pairs(found)
    except GCFSRError as error:
        return f"not defined ({error})"


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Restores torch's random state (CPU and CUDA) after the block: a resumed run must draw the same numbers."""
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []):
        yield


def write_png(path: Path, image: np.ndarray) -> None:
    """Writes a BGR uint8 image atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(path, cv2.imencode(".png", image)[1].tobytes())
