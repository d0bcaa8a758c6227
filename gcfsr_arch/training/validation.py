"""Validation on the EMA network: the pictures split over the ranks, the figures those of one rank, faults reported."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import get_root_logger, tensor2img
from basicsr.utils.registry import METRIC_REGISTRY
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.training.metrics import NotDefined, niqe_blocks
from gcfsr_datasets.image_io import write_bytes_atomic

Value = float | np.ndarray | str  # a number, a feature vector of a set metric, or why there is none


class ValidationMixin:
    """`validation` for SRModel's place; options under `val`: metrics, grid, grid_factors, pbar, suffix."""

    def check_metrics(self, opt: dict[str, Any]) -> None:
        """Finds metrics that cannot run before the run begins.

        Raises:
            GCFSRError: an unknown metric, or weights that are not there.
        """
        for name, options in ((opt.get("val") or {}).get("metrics") or {}).items():
            if options["type"] not in METRIC_REGISTRY:
                raise GCFSRError(f"val:metrics:{name}:type: {options['type']} is not registered; see docs/training.md")
            for key in ("weights", "backbone", "heads"):
                path = options.get(key)
                if path is not None and not Path(path).expanduser().is_file():
                    raise GCFSRError(f"val:metrics:{name}:{key}: {path} is not a file; correct it or remove {name}")

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
            save_img: whether every restored picture is written.
        """
        dataset, name = dataloader.dataset, dataloader.dataset.opt["name"]
        rank, world = self.opt.get("rank", 0), self.opt.get("world_size", 1)
        with kept_random_state():
            rows = {}
            for index, data in self._items(dataset, range(rank, len(dataset), world)):
                self.feed_data(data)
                self.test()
                rows[index] = self._measure(name, data, current_iter, save_img)
            rows = gathered(rows)
            if rank == 0 and self.opt["val"].get("grid", 0):
                self._save_grid(dataset, current_iter, tb_logger)
        if self.opt["val"].get("metrics"):
            self._report(name, rows, current_iter, tb_logger)

    def _items(self, dataset: Dataset, indices: range) -> Iterator[tuple[int, dict[str, Any]]]:
        loader = DataLoader(Subset(dataset, indices), batch_size=1, generator=torch.Generator())
        show = self.opt["val"].get("pbar", False) and self.opt.get("rank", 0) == 0
        yield from zip(indices, tqdm(loader, unit="picture", disable=not show), strict=True)

    def _measure(self, name: str, data: dict[str, Any], current_iter: int | str, save_img: bool) -> dict[str, Value]:
        """The metrics of one restored picture, which is written when asked for."""
        picture = tensor2img(self.output, min_max=(-1, 1))
        pair = {"img": picture}
        if "gt" in data:
            pair["img2"] = tensor2img(self.gt, min_max=(-1, 1))
        if save_img:
            stem = Path(data["lq_path"][0]).stem
            suffix = current_iter if self.is_train else self.opt["val"].get("suffix") or self.opt["name"]
            write_png(Path(self.opt["path"]["visualization"]) / name / f"{stem}_{suffix}.png", picture)
        return {m: measured(pair, options) for m, options in (self.opt["val"].get("metrics") or {}).items()}

    def _report(self, name: str, rows: dict[int, dict[str, Value]], current_iter: int | str, tb_logger: Any) -> None:
        """Reduces, keeps the best (BasicSR's records), logs to console and TensorBoard."""
        self._initialize_best_metric_results(name)
        self.metric_results: dict[str, float] = {}
        lines = [f"Validation {name} ({len(rows)} pictures)"]
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
        """One row per face: input | restored at several s | truth; written to `visualization` and TensorBoard."""
        name, rows = dataset.opt["name"], []
        for _, data in self._items(dataset, range(min(self.opt["val"]["grid"], len(dataset)))):
            self.feed_data(data)
            restored = [self.restore(self.lq, s) for s in self._grid_dials()]
            rows.append(torch.cat([self.lq, *restored, *([self.gt] if "gt" in data else [])], dim=3))
        picture = tensor2img(torch.cat(rows, dim=2), min_max=(-1, 1))
        write_png(Path(self.opt["path"]["visualization"]) / f"grid_{name}_{current_iter}.png", picture)
        if tb_logger is not None:
            tb_logger.add_image(f"grid/{name}", picture[..., ::-1].copy(), current_iter, dataformats="HWC")

    def _grid_dials(self) -> list[float | None]:
        net = self.get_bare_model(self.net_g)
        if net.blind:
            return [None]
        factors = self.opt["val"].get("grid_factors") or np.geomspace(net.min_factor, net.max_factor, 5)
        return [float(factor) / net.max_factor for factor in factors]


def measured(pair: dict[str, np.ndarray], options: dict[str, Any]) -> Value:
    """One metric of one picture; instead of a number the reason why there is none."""
    if options["type"] == "calculate_niqe" and niqe_blocks(pair["img"], options.get("crop_border", 0)) < 2:
        return "not defined (NIQE takes pictures of at least 96x192 pixels)"
    options = {key: value for key, value in options.items() if key != "better"}
    try:
        value = calculate_metric(pair, options)
    except NotDefined as error:
        return f"not defined ({error})"
    except Exception as error:  # noqa: BLE001 - whatever a metric does, the run goes on and says so
        return f"failed ({type(error).__name__}: {error})"
    return value if isinstance(value, np.ndarray) else float(value)


def reduced(values: list[Value], options: dict[str, Any]) -> float | str:
    """The figure of a set: the metric's own `reduce` over its features, otherwise the mean.

    Pictures without a value are left out when others have one; when none has, the first reason is returned.
    """
    found = [v for v in values if not isinstance(v, str) and np.isfinite(v).all()]
    missing = [v if isinstance(v, str) else "failed (not finite)" for v in values if not any(v is f for f in found)]
    if not found:
        return missing[0] if missing else "not defined (no pictures)"
    if missing:
        left_out = f"{len(missing)} of {len(values)} pictures without value: {missing[0]}"
        get_root_logger().warning(f"{options['type']}: {left_out}")
    reduce = getattr(METRIC_REGISTRY.get(options["type"]), "reduce", None)
    try:
        return float(np.mean(found)) if reduce is None else float(reduce(np.stack(found)))
    except NotDefined as error:
        return f"not defined ({error})"
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        return f"failed ({type(error).__name__}: {error})"


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


def write_png(path: Path, picture: np.ndarray) -> None:
    """Writes a BGR uint8 picture, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(path, cv2.imencode(".png", picture)[1].tobytes())
