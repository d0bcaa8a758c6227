"""One evaluation from the ground truth to the values: prepare, restore, score. Each step resumes after a stop."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.image_io import read_file, size_of
from gcfsr_inference.console import counted
from gcfsr_inference.evaluation.conditions import Condition
from gcfsr_inference.evaluation.inputs import Preparation, prepare, true_conditions
from gcfsr_inference.evaluation.methods import INPUT, Bicubic, Checkpoint, Folder, Method
from gcfsr_inference.evaluation.metric_weights import availability
from gcfsr_inference.evaluation.score import Planned, Scored, Task, Values, score, size_fault
from gcfsr_inference.evaluation.settings import Settings
from gcfsr_inference.evaluation.specs import build_method
from gcfsr_inference.evaluation.workspace import Workspace, by_stem, chunks, read_bgr, save_png
from gcfsr_inference.restore.hashes import file_hash
from gcfsr_measure.catalogue import entry_of
from gcfsr_measure.workers import Workers

Reading = dict[str, dict[str, list[float]]]  # condition of a network -> true, read, deviation: by image
Advance = Callable[[str, int, int], None]  # what is being done, how many images more are done, of how many


@dataclass
class Evaluation:
    """State of a run: the prepared inputs, the excluded images, and the values."""

    settings: Settings
    advance: Advance
    space: Workspace = field(init=False)
    gt: dict[str, Path] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)  # sha256 of the images as given
    excluded: list[dict[str, str]] = field(default_factory=list)
    methods: list[Method] = field(default_factory=list)
    plan: tuple[Planned, ...] = ()
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    values: dict[tuple[str, str], Values] = field(default_factory=dict)
    results: dict[tuple[str, str], dict[str, Path]] = field(default_factory=dict)
    absent: dict[tuple[str, str], str] = field(default_factory=dict)
    readings: dict[tuple[str, str], Reading] = field(default_factory=dict)
    gt_values: Values = field(init=False)

    def __post_init__(self) -> None:
        self.space = Workspace(self.settings.out)

    @property
    def names(self) -> list[str]:
        """Images that are not excluded."""
        out = {entry["name"] for entry in self.excluded}
        return [name for name in self.gt if name not in out]

    @property
    def total(self) -> int:
        """The number of images and conditions that each method processes."""
        return len(self.gt) * len(self.settings.protocol.conditions)

    def run(self) -> "Evaluation":
        """Runs all steps; `assemble` makes the report from this object's fields."""
        self.plan_metrics()
        given = [build_method(m, self.settings.device, self.settings.seed) for m in self.settings.methods]
        inputs = [method for method in given if isinstance(method, Bicubic)] or [Bicubic(INPUT)]
        self.methods = [*inputs, *(method for method in given if method not in inputs)]
        labels = [method.label for method in self.methods]
        for label in labels:
            if labels.count(label) > 1 or label == "gt":
                raise GCFSRError(f"--method: the label {label!r} is taken; write LABEL=SPEC")
        self.check_sizes()
        with Workers(self.settings.jobs) as workers:
            self.prepare(workers)
            for method in self.methods:
                self.run_method(method, workers)
            self.score_gt(workers)
        return self

    def check_sizes(self) -> None:
        """Raises GCFSRError, before anything is written, where a checkpoint does not make the ground truth's size."""
        settings = self.settings
        size = (settings.size, settings.size) if settings.size else None
        if size is None:
            path = next(iter(by_stem(settings.gt, settings.include).values()))
            with suppress(GCFSRError):  # `prepare` reports it
                width, height = size_of(read_file(path, settings.max_pixels), str(path), settings.max_pixels)
                size = height, width
        for method in self.methods:
            if size and isinstance(method, Checkpoint) and not all(map(method.absent, settings.protocol.conditions)):
                method.check_size(size)

    def plan_metrics(self) -> None:
        """Finds each metric's weights; a metric that cannot be computed is listed with the reason."""
        plan = []
        for key in dict.fromkeys(self.settings.metrics):
            entry = entry_of(key)
            path, status = availability(entry, self.settings.weights, self.settings.download)
            digest = file_hash(path) if path else None
            name = key.replace("/", "_").replace(":", "_") + (f"-{digest[:8]}" if digest else "")
            if status == "ok":
                plan.append(Planned(key, path, self.settings.device, name))
            self.metrics[key] = {
                "name": entry.name, "better": "higher" if entry.higher else "lower", "digits": entry.digits,
                "of_set": entry.of_set, "note": entry.note, "undefined": entry.undefined, "status": status, "id": name,
                "weights": {"file": path.name, "sha256": digest} if path else None,
            }  # fmt: skip
        self.plan = tuple(plan)

    def prepare(self, workers: Workers) -> None:
        """Saves the ground truth at the requested size and the degraded inputs, once."""
        settings = self.settings
        found = by_stem(settings.gt, settings.include)
        found = dict(list(found.items())[: settings.limit])
        size = settings.size
        self.sources = {name: file_hash(path) for name, path in found.items()}
        self.space.claim("run.json", settings.inputs_identity(), "images")
        self.space.claim_images(self.sources)
        by_input = {condition.input_key: condition for condition in settings.protocol.conditions}
        items = [
            Preparation(
                name,
                path,
                size,
                tuple(by_input.values()),
                settings.seed,
                self.space.root,
                settings.blind,
                settings.max_pixels,
            )
            for name, path in found.items()
        ]
        for item, fault in zip(items, workers.map(prepare, items), strict=True):
            self.advance("inputs", 1, len(items))
            self.gt[item.name] = self.space.gt(item.name) if size else found[item.name]
            if fault:
                self.bad(item.name, "ground truth", "", fault)

    def bad(self, name: str, label: str, condition: str, reason: str) -> None:
        """An image that cannot be compared: raises, or excludes it everywhere and notes the reason for the report."""
        if self.settings.on_bad == "error":
            where = f"{label} {condition}".strip()
            raise GCFSRError(f"{where}: {name}: {reason}; fix it or pass --on-bad exclude")
        self.excluded.append({"name": name, "method": label, "condition": condition, "reason": reason})

    def run_method(self, method: Method, workers: Workers) -> None:
        """Restores and scores under every condition."""
        self.space.claim(f"results/{method.label}/method.json", method.identity, f"results of {method.label}")
        conditions = self.settings.protocol.conditions
        for condition in conditions:
            reason = method.absent(condition)
            if reason:
                self.absent[method.label, condition.key] = reason
                self.advance(method.label, len(self.names), self.total)
                continue
            if isinstance(method, Folder):
                results = self.folder_results(method, condition, alone=len({c.input_key for c in conditions}) == 1)
            else:
                self.restore(method, condition)
                results = {name: self.space.result(method.label, condition.key, name) for name in self.names}
                if condition.factor is None and isinstance(method, Checkpoint) and method.reads():
                    self.readings[method.label, condition.key] = self.reading(method, condition)
            self.results[method.label, condition.key] = results
            self.score_condition(method.label, condition, results, workers)

    def folder_results(self, method: Folder, condition: Condition, alone: bool) -> dict[str, Path]:
        """The folder's images by the ground truth's names; reports missing and extra ones."""
        files = method.files(condition, alone)
        missing = [name for name in self.names if name not in files]
        extra = sorted(set(files) - set(self.gt))
        if extra and self.settings.on_bad == "error":
            count = counted(len(extra), "image has", "images have")
            raise GCFSRError(
                f"{method.label} {condition.key}: {count} no ground truth ({', '.join(extra[:5])}); "
                "remove them or pass --on-bad exclude"
            )
        for name in missing:
            self.bad(name, method.label, condition.key, "missing in the method's folder")
        for name in extra:
            self.excluded.append(
                {"name": name, "method": method.label, "condition": condition.key, "reason": "has no ground truth"}
            )
        return {name: files[name] for name in self.names}

    def restore(self, method: Method, condition: Condition) -> None:
        """Restores the images that have no result yet, one batch at a time, and saves 8-bit PNG."""
        todo = [n for n in self.names if not self.space.result(method.label, condition.key, n).exists()]
        for batch in chunks(todo, self.settings.batch):
            limit = self.settings.max_pixels
            lows = [read_bgr(self.space.low(condition.input_key, name), limit) for name in batch]
            gts = [read_bgr(self.gt[name], limit).shape for name in batch]
            for group in same_shape(list(zip(lows, gts, strict=True))):
                height, width, _ = gts[group[0]]
                true = [self.true_conditions(condition, batch[i], height) for i in group]
                images = method.restore([lows[i] for i in group], (height, width), condition, true)
                for i, image in zip(group, images, strict=True):
                    fault = result_fault(image, gts[i])
                    if fault:
                        self.bad(batch[i], method.label, condition.key, fault)
                        continue
                    image = np.rint(np.clip(image, 0, 255)).astype(np.uint8)
                    save_png(self.space.result(method.label, condition.key, batch[i]), image)

    def true_conditions(self, condition: Condition, name: str, side: int) -> dict[str, float]:
        """See `inputs.true_conditions`."""
        return true_conditions(condition, side, self.settings.seed, name, self.settings.blind)

    def reading(self, method: Checkpoint, condition: Condition) -> Reading:
        """What a network's estimator reads of the inputs, beside what made them."""
        columns: Reading = {name: {"true": [], "read": [], "deviation": []} for name in method.restorer.conditions}
        for name in self.names:
            low = read_bgr(self.space.low(condition.input_key, name), self.settings.max_pixels)
            true = self.true_conditions(condition, name, low.shape[0])
            true["factor"] = min(true["factor"] / method.restorer.max_factor, 1.0)
            for (key, column), mean, deviation in zip(columns.items(), *method.read(low), strict=True):
                for kind, value in (("true", true[key]), ("read", mean), ("deviation", deviation)):
                    column[kind].append(value)
        return columns

    def score_condition(self, label: str, condition: Condition, results: dict[str, Path], workers: Workers) -> None:
        """Scores the results that have no values yet."""
        values = self.values[label, condition.key] = Values(self.space.values(label, condition.key))
        todo = [n for n in self.names if values.missing(n, self.plan, file_hash(results[n]), self.space)]
        self.advance(label, len(self.names) - len(todo), self.total)
        tasks = (
            self.task([(n, self.gt[n], results[n], self.space.low(condition.input_key, n)) for n in batch],
                      self.plan, condition.factor is None)
            for batch in chunks(todo, self.settings.batch)
        )  # fmt: skip
        for scored in workers.map(score, tasks):
            values.add(scored)
            self.advance(label, len(scored), self.total)
            self.note_faults(scored, label, condition.key)

    def score_gt(self, workers: Workers) -> None:
        """Features of the ground truth, for the distances between sets."""
        self.gt_values = values = Values(self.space.values("gt", "gt"))
        plan = tuple(planned for planned in self.plan if planned.of_set)
        todo = [n for n in self.names if plan and values.missing(n, plan, file_hash(self.gt[n]), self.space)]
        tasks = (
            self.task([(n, self.gt[n], self.gt[n], self.gt[n]) for n in batch], plan, True)
            for batch in chunks(todo, self.settings.batch)
        )
        for scored in workers.map(score, tasks):
            values.add(scored)

    def task(self, images: Sequence[tuple[str, Path, Path, Path]], plan: tuple[Planned, ...], blind: bool) -> Task:
        return Task(tuple(images), plan, self.space.root, blind, self.settings.max_pixels)

    def note_faults(self, scored: Sequence[Scored], label: str, condition: str) -> None:
        for entry in scored:
            if entry.fault:
                self.bad(entry.name, label, condition, entry.fault)


def result_fault(image: Any, gt: tuple[int, ...]) -> str | None:
    """Why a method's output cannot be compared (type, size, or values that are not finite), or None."""
    if not isinstance(image, np.ndarray) or image.ndim != 3:
        return "the method returned no (H, W, 3) array"
    if not np.isfinite(image).all():
        return "NaN or infinite values in the output"
    return size_fault(image.shape, gt)


def same_shape(pairs: Sequence[tuple[Any, Any]]) -> Iterator[list[int]]:
    """Indices of images that fit into one batch."""
    groups: dict[Any, list[int]] = {}
    for index, (low, gt) in enumerate(pairs):
        groups.setdefault((low.shape, gt), []).append(index)
    yield from groups.values()
