"""Validation with the EMA network: batches split over the ranks, the values of one rank, failures reported.

Networks of metrics run on the device, a batch at a time; metrics of pixels in worker processes (`val:workers`), while
the next batch is restored.
"""

from collections.abc import Iterator, Sequence
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
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.training.metrics import Metric, Value, frechet_of_pairs, measured, metric_of
from gcfsr_datasets.image_io import write_bytes_atomic
from gcfsr_measure.measures import Case
from gcfsr_measure.workers import Workers

BATCH = 4  # images restored and measured at once
NO_TRUTH = "not defined (there is no ground truth)"


@dataclass(frozen=True)
class Task:
    """A restored batch: cases by their indices in the data set, metrics still to be computed, and values so far."""

    cases: dict[int, Case]
    metrics: dict[str, Metric]
    rows: dict[int, dict[str, Value]]


def score(task: Task, device: str = "cpu") -> dict[int, dict[str, Value]]:
    """The values of a task with its metrics added: image -> metric -> value."""
    columns = {name: measured(metric, list(task.cases.values()), device) for name, metric in task.metrics.items()}
    added = {index: {name: column[i] for name, column in columns.items()} for i, index in enumerate(task.cases)}
    return {index: {**task.rows[index], **values} for index, values in added.items()}


class ValidationMixin:
    """`validation` in place of SRModel's; options under `val`: metrics, batch, workers, grid, grid_factors, pbar."""

    def check_metrics(self, opt: dict[str, Any]) -> None:
        """Finds metrics that cannot run before the run begins.

        Raises:
            GCFSRError: an unknown metric or key, or weights or a package that are missing.
        """
        for name, options in ((opt.get("val") or {}).get("metrics") or {}).items():
            if options["type"] not in METRIC_REGISTRY:
                raise GCFSRError(f"val:metrics:{name}:type: {options['type']} is not registered; see docs/training.md")
            try:
                metric_of(options)
            except GCFSRError as error:
                raise GCFSRError(f"val:metrics:{name}:{error}") from error

    @torch.no_grad()
    def restore(self, lq: Tensor, s: Tensor | float | None) -> Tensor:
        """Restores with the EMA network where there is one, with fixed noise. (N, 3, S, S) in [-1, 1]."""
        net = getattr(self, "net_g_ema", None) or self.get_bare_model(self.net_g)
        was_training = net.training
        net.eval()
        output = net(lq, s, noise="fixed", seed=0)
        net.train(was_training)
        return output

    def test(self) -> None:
        """Restores the batch that was fed last."""
        self.output = self.restore(self.lq, self.s)

    def validation(
        self, dataloader: DataLoader, current_iter: int | str, tb_logger: Any, save_img: bool = False
    ) -> None:
        """Measures and saves; every rank must call it. Training's random numbers are left as they are.

        Args:
            dataloader: BasicSR's loader; its data set is split over the ranks.
            current_iter: iteration, or the test's name.
            tb_logger: TensorBoard's writer on rank 0, or None.
            save_img: whether every restored image is written.
        """
        dataset, options = dataloader.dataset, self.opt["val"]
        name = dataset.opt["name"]
        rank, world = self.opt.get("rank", 0), self.opt.get("world_size", 1)
        with kept_random_state(), Workers(options.get("workers", 0)) as workers:
            batches = chunks(len(dataset), options.get("batch", BATCH))[rank::world]
            tasks = self._tasks(dataset, batches, (name, current_iter) if save_img else None)
            rows = gathered({index: row for scored in workers.map(score, tasks) for index, row in scored.items()})
            if rank == 0 and options.get("grid", 0):
                self._save_grid(dataset, current_iter, tb_logger)
        if options.get("metrics"):
            self._report(name, rows, current_iter, tb_logger)

    def _tasks(self, dataset: Dataset, batches: Sequence[range], save: tuple[str, int | str] | None) -> Iterator[Task]:
        """Restores batch by batch and computes what runs on the device; the rest is left to `score`.

        Args:
            dataset: the validation set.
            batches: indices of the images of each batch.
            save: name of the set and iteration, for writing the restored images; None writes none.
        """
        wanted = self.opt["val"].get("metrics") or {}
        ours = {name: metric for name, options in wanted.items() if (metric := metric_of(options))}
        networks = {name: metric for name, metric in ours.items() if metric.entry.on_device}
        pixels = {name: metric for name, metric in ours.items() if name not in networks}
        foreign = {name: options for name, options in wanted.items() if name not in ours}
        for indices, data in self._batches(dataset, batches):
            self.feed_data(data)
            self.test()
            results = images(self.output)
            truths = images(self.gt) if "gt" in data else [None] * len(results)
            if save is not None:
                for path, result in zip(data["lq_path"], results, strict=True):
                    self._save(Path(path).stem, result, *save)
            pairs = dict(zip(indices, zip(results, truths, strict=True), strict=True))
            rows = {
                index: {name: foreign_value(pair, options) for name, options in foreign.items()}
                for index, pair in pairs.items()
            }
            if truths[0] is None:
                without = {name: NO_TRUTH for name, metric in ours.items() if metric.entry.reference}
                rows = {index: {**row, **without} for index, row in rows.items()}
            cases = {index: Case(result if gt is None else gt, result, result) for index, (result, gt) in pairs.items()}
            possible = [name for name in ours if truths[0] is not None or not ours[name].entry.reference]
            task = Task(cases, {name: metric for name, metric in networks.items() if name in possible}, rows)
            rows = score(task, str(self.device))
            yield Task(cases, {name: metric for name, metric in pixels.items() if name in possible}, rows)

    def _batches(self, dataset: Dataset, batches: Sequence[range]) -> Iterator[tuple[range, dict[str, Any]]]:
        loader = DataLoader(dataset, batch_sampler=batches, generator=torch.Generator())
        show = self.opt["val"].get("pbar", False) and self.opt.get("rank", 0) == 0
        yield from zip(batches, tqdm(loader, unit="batch", disable=not show), strict=True)

    def _save(self, stem: str, image: np.ndarray, name: str, current_iter: int | str) -> None:
        suffix = current_iter if self.is_train else self.opt["val"].get("suffix") or self.opt["name"]
        write_png(Path(self.opt["path"]["visualization"]) / name / f"{stem}_{suffix}.png", image)

    def _report(self, name: str, rows: dict[int, dict[str, Value]], current_iter: int | str, tb_logger: Any) -> None:
        """Reduces, keeps the best (BasicSR's records), logs to console and TensorBoard."""
        self._initialize_best_metric_results(name)
        self.metric_results: dict[str, float] = {}
        lines = [f"Validation {name} ({len(rows)} images)"]
        for metric, options in self.opt["val"]["metrics"].items():
            value = reduced([rows[i][metric] for i in sorted(rows)], options)
            if isinstance(value, str):
                lines.append(f"\t # {metric}: {value}")
                continue
            self.metric_results[metric] = value
            self._update_best_metric_result(name, metric, value, current_iter)
            best = self.best_metric_results[name][metric]
            so_far = f"\tBest: {best['val']:.4f} @ {best['iter']} iter" if self.is_train else ""
            lines.append(f"\t # {metric}: {value:.4f}{so_far}")
            if tb_logger is not None:
                tb_logger.add_scalar(f"metrics/{name}/{metric}", value, current_iter)
        get_root_logger().info("\n".join(lines))

    def _save_grid(self, dataset: Dataset, current_iter: int | str, tb_logger: Any) -> None:
        """One row per face: input | restored at several s | ground truth; goes to `visualization` and TensorBoard."""
        name, rows = dataset.opt["name"], []
        for _, data in self._batches(dataset, chunks(min(self.opt["val"]["grid"], len(dataset)), 1)):
            self.feed_data(data)
            restored = [self.restore(self.lq, s) for s in self._grid_dials()]
            rows.append(torch.cat([self.lq, *restored, *([self.gt] if "gt" in data else [])], dim=3))
        (grid,) = images(torch.cat(rows, dim=2))
        write_png(Path(self.opt["path"]["visualization"]) / f"grid_{name}_{current_iter}.png", grid)
        if tb_logger is not None:
            tb_logger.add_image(f"grid/{name}", grid[..., ::-1].copy(), current_iter, dataformats="HWC")

    def _grid_dials(self) -> list[float | None]:
        net = self.get_bare_model(self.net_g)
        if net.blind:
            return [None]
        factors = self.opt["val"].get("grid_factors") or np.geomspace(net.min_factor, net.max_factor, 5)
        return [float(factor) / net.max_factor for factor in factors]


def chunks(count: int, size: int) -> list[range]:
    """0..count-1 in ranges of `size`; which images share a batch does not depend on the number of ranks."""
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def images(batch: Tensor) -> list[np.ndarray]:
    """(N, 3, H, W) RGB in [-1, 1] -> BGR uint8 images."""
    return [tensor2img(image, min_max=(-1, 1)) for image in batch]


def foreign_value(pair: tuple[np.ndarray, np.ndarray | None], options: dict[str, Any]) -> Value:
    """A metric of another package, from BasicSR's registry, of (result, ground truth); or why there is no number."""
    data = {key: image for key, image in zip(("img", "img2"), pair, strict=True) if image is not None}
    try:
        return float(calculate_metric(data, {key: value for key, value in options.items() if key != "better"}))
    except Exception as error:  # noqa: BLE001 - whatever a metric does, the run goes on and says so
        return f"failed ({type(error).__name__}: {error})"


def reduced(values: Sequence[Value], options: dict[str, Any]) -> float | str:
    """The value of a set: the Frechet distance of a metric of sets, otherwise the mean.

    Images without a value are left out when others have one; when none has, the first reason is returned.
    """
    found = [v for v in values if not isinstance(v, str) and np.isfinite(v).all()]
    missing = [v if isinstance(v, str) else "failed (not finite)" for v in values if not any(v is f for f in found)]
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


def gathered(rows: dict[int, Any]) -> dict[int, Any]:
    """The rows of all ranks, on all ranks."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, rows)
    return {index: row for part in parts for index, row in part.items()}


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Gives torch's random numbers (CPU and CUDA) back as they were: a resumed run must draw the same."""
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []):
        yield


def write_png(path: Path, image: np.ndarray) -> None:
    """Writes a BGR uint8 image, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(path, cv2.imencode(".png", image)[1].tobytes())
