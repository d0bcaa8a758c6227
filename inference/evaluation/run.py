"""One evaluation from the ground truth to the values: prepare, restore, score; each step resumes where it stopped."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.evaluation.conditions import Condition
from gcfsr_inference.evaluation.inputs import Preparation, prepare
from gcfsr_inference.evaluation.methods import INPUT, Bicubic, Folder, Method
from gcfsr_inference.evaluation.metric_weights import availability, weights_folders
from gcfsr_inference.evaluation.score import Planned, Scored, Task, Values, score, size_fault
from gcfsr_inference.evaluation.settings import Settings
from gcfsr_inference.evaluation.specs import build_method
from gcfsr_inference.evaluation.workspace import Workspace, by_stem, chunks, read_bgr, save_picture
from gcfsr_inference.restore.hashes import file_hash
from gcfsr_measure.catalogue import entry_of
from gcfsr_measure.workers import Workers

Advance = Callable[[str, int, int], None]  # what is being done, how many images more are done, of how many


@dataclass
class Evaluation:
    """State of a run: what was prepared, what is kept out, and what was scored."""

    settings: Settings
    advance: Advance
    space: Workspace = field(init=False)
    truth: dict[str, Path] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)  # sha256 of the images given
    excluded: list[dict[str, str]] = field(default_factory=list)
    methods: list[Method] = field(default_factory=list)
    plan: tuple[Planned, ...] = ()
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    values: dict[tuple[str, str], Values] = field(default_factory=dict)
    results: dict[tuple[str, str], dict[str, Path]] = field(default_factory=dict)
    absent: dict[tuple[str, str], str] = field(default_factory=dict)
    truth_values: Values = field(init=False)

    def __post_init__(self) -> None:
        self.space = Workspace(self.settings.out)

    @property
    def names(self) -> list[str]:
        """Images that are still in."""
        out = {entry["name"] for entry in self.excluded}
        return [name for name in self.truth if name not in out]

    @property
    def total(self) -> int:
        """Images that each method goes through."""
        return len(self.truth) * len(self.settings.protocol.conditions)

    def run(self) -> "Evaluation":
        """Does everything; the report is assembled from what this object then holds."""
        self.plan_metrics()
        given = [build_method(m, self.settings.device, self.settings.seed) for m in self.settings.methods]
        inputs = [method for method in given if isinstance(method, Bicubic)] or [Bicubic(INPUT)]
        self.methods = [*inputs, *(method for method in given if method not in inputs)]
        labels = [method.label for method in self.methods]
        for label in labels:
            if labels.count(label) > 1 or label == "truth":
                raise GCFSRError(f"--method: the label {label!r} is taken; write LABEL=SPEC")
        with Workers(self.settings.jobs) as workers:
            self.prepare(workers)
            for method in self.methods:
                self.run_method(method, workers)
            self.score_truth(workers)
        return self

    def plan_metrics(self) -> None:
        """Finds each metric's weights; a metric that cannot be computed keeps its row with the reason."""
        folders = weights_folders(self.settings.weights)
        plan = []
        for key in dict.fromkeys(self.settings.metrics):
            entry = entry_of(key)
            path, status = availability(entry, folders, self.settings.download)
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
        """Truth at the asked size and the degraded inputs, saved once."""
        settings = self.settings
        found = by_stem(settings.truth, settings.include)
        found = dict(list(found.items())[: settings.limit])
        size = settings.size
        self.sources = {name: file_hash(path) for name, path in found.items()}
        self.space.claim("run.json", settings.inputs_identity(), "pictures")
        self.space.claim_pictures(self.sources)
        by_input = {condition.input_key: condition for condition in settings.protocol.conditions}
        items = [
            Preparation(name, path, size, tuple(by_input.values()), settings.seed, self.space.root, settings.blind)
            for name, path in found.items()
        ]
        for item, fault in zip(items, workers.map(prepare, items), strict=True):
            self.advance("inputs", 1, len(items))
            self.truth[item.name] = self.space.truth(item.name) if size else found[item.name]
            if fault:
                self.bad(item.name, "truth", "", fault)

    def bad(self, name: str, label: str, condition: str, reason: str) -> None:
        """An image that cannot be compared: an error, or out everywhere with its reason in the report."""
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
            self.results[method.label, condition.key] = results
            self.score_condition(method.label, condition, results, workers)

    def folder_results(self, method: Folder, condition: Condition, alone: bool) -> dict[str, Path]:
        """The folder's images for the ground truth's names; missing and extra ones are named."""
        files = method.files(condition, alone)
        missing = [name for name in self.names if name not in files]
        extra = sorted(set(files) - set(self.truth))
        if extra and self.settings.on_bad == "error":
            raise GCFSRError(
                f"{method.label} {condition.key}: {len(extra)} images have no ground truth ({', '.join(extra[:5])}); "
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
        """Makes the results that are not there yet, a batch at a time, and saves them as 8-bit PNG."""
        todo = [n for n in self.names if not self.space.result(method.label, condition.key, n).exists()]
        for batch in chunks(todo, self.settings.batch):
            lows = [read_bgr(self.space.low(condition.input_key, name)) for name in batch]
            truths = [read_bgr(self.truth[name]).shape for name in batch]
            for group in same_shape(list(zip(lows, truths, strict=True))):
                height, width, _ = truths[group[0]]
                images = method.restore([lows[i] for i in group], (height, width), condition)
                for i, image in zip(group, images, strict=True):
                    fault = result_fault(image, truths[i])
                    if fault:
                        self.bad(batch[i], method.label, condition.key, fault)
                        continue
                    image = np.rint(np.clip(image, 0, 255)).astype(np.uint8)
                    save_picture(self.space.result(method.label, condition.key, batch[i]), image)

    def score_condition(self, label: str, condition: Condition, results: dict[str, Path], workers: Workers) -> None:
        """Scores what has no value yet."""
        values = self.values[label, condition.key] = Values(self.space.values(label, condition.key))
        todo = [n for n in self.names if values.missing(n, self.plan, file_hash(results[n]), self.space)]
        self.advance(label, len(self.names) - len(todo), self.total)
        tasks = (
            self.task([(n, self.truth[n], results[n], self.space.low(condition.input_key, n)) for n in batch],
                      self.plan, condition.factor is None)
            for batch in chunks(todo, self.settings.batch)
        )  # fmt: skip
        for scored in workers.map(score, tasks):
            values.add(scored)
            self.advance(label, len(scored), self.total)
            self.note_faults(scored, label, condition.key)

    def score_truth(self, workers: Workers) -> None:
        """Features of the ground truth, for the distances between sets."""
        self.truth_values = values = Values(self.space.values("truth", "truth"))
        plan = tuple(planned for planned in self.plan if planned.of_set)
        todo = [n for n in self.names if plan and values.missing(n, plan, file_hash(self.truth[n]), self.space)]
        tasks = (
            self.task([(n, self.truth[n], self.truth[n], self.truth[n]) for n in batch], plan, True)
            for batch in chunks(todo, self.settings.batch)
        )
        for scored in workers.map(score, tasks):
            values.add(scored)

    def task(self, pictures: Sequence[tuple[str, Path, Path, Path]], plan: tuple[Planned, ...], blind: bool) -> Task:
        return Task(tuple(pictures), plan, self.space.root, blind)

    def note_faults(self, scored: Sequence[Scored], label: str, condition: str) -> None:
        for entry in scored:
            if entry.fault:
                self.bad(entry.name, label, condition, entry.fault)


def result_fault(image: Any, truth: tuple[int, ...]) -> str | None:
    """What keeps a method's output from being compared: its type, its size, or numbers that are none."""
    if not isinstance(image, np.ndarray) or image.ndim != 3:
        return "the method returned no (H, W, 3) array"
    if not np.isfinite(image).all():
        return "NaN or infinite values in the output"
    return size_fault(image.shape, truth)


def same_shape(pairs: Sequence[tuple[Any, Any]]) -> Iterator[list[int]]:
    """Indices of images that can go through a network together."""
    groups: dict[Any, list[int]] = {}
    for index, (low, truth) in enumerate(pairs):
        groups.setdefault((low.shape, truth), []).append(index)
    yield from groups.values()
