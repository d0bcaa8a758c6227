"""Trains several option files with one seed and budget and compares the networks: the ablations at a small scale."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.files import make_folder
from gcfsr_datasets.image_io import list_images, write_bytes_atomic
from gcfsr_inference.documents import Number, Part, Sha256, read_document
from gcfsr_inference.evaluation.conditions import Protocol, parse_factors
from gcfsr_inference.evaluation.evaluate import Settings, evaluate
from gcfsr_inference.evaluation.report.compare import compare, comparison_text
from gcfsr_inference.evaluation.report.text import markdown
from gcfsr_inference.evaluation.workspace import write_json
from gcfsr_inference.restore.hashes import file_hash


@dataclass(frozen=True)
class Budget:
    """The budget that all option files share."""

    iterations: int
    seed: int
    train: Path
    val: Path
    threads: int


@dataclass(frozen=True)
class Entry:
    """One option file: its name (also the run's), its content, and its changes against the first."""

    path: Path
    name: str
    options: dict[str, Any]
    changes: tuple[str, ...]


class _Note(Part):
    """What is written beside a run."""

    options: Sha256
    iterations: int
    seed: int
    seconds: Number


def flat(options: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(key:key, value) of every leaf."""
    for key, value in options.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}:")
        else:
            yield f"{prefix}{key}", value


def read_entries(paths: Sequence[str]) -> list[Entry]:
    """Reads the option files; the others are compared with the first.

    Raises:
        GCFSRError: a file is missing, is not an option file of a GCFSR generator, or two share a
            name or differ in size.
    """
    from gcfsr_arch.training.options import read_options

    entries: list[Entry] = []
    for path in map(Path, paths):
        options, _ = read_options(path)
        network = options.get("network_g")
        if not isinstance(network, dict) or network.get("type") != "GCFSR" or not options.get("name"):
            raise GCFSRError(f"{path}: needs a name and a network_g of type GCFSR")
        first = entries[0].options if entries else options
        entry = Entry(path, str(options["name"]), options, changes(first, options))
        if any(other.name == entry.name for other in entries):
            raise GCFSRError(f"{path}: the name {entry.name} is taken by another option file; choose another one")
        if network.get("out_size") != first["network_g"].get("out_size"):
            raise GCFSRError(f"{path}: out_size {network.get('out_size')} is not the first file's; compare one size")
        entries.append(entry)
    return entries


def changes(first: dict[str, Any], other: dict[str, Any]) -> tuple[str, ...]:
    """The differences of an option file from the first one: "key value", "without key"."""
    a, b = dict(flat(first)), dict(flat(other))
    found = [f"{key} {b[key]}" for key in b if key != "name" and a.get(key, "") != b[key]]
    return (*found, *(f"without {key}" for key in a if key not in b))


def command(entry: Entry, budget: Budget, runs: Path) -> list[str]:
    """The trainer's command line: the option file with the budget set by --force_yml."""
    force = [
        f"manual_seed={budget.seed}", f"train:total_iter={budget.iterations}",
        f"datasets:train:dataroot_gt={budget.train}", f"path:experiments_root={runs}",
    ]  # fmt: skip
    if "periods" in (entry.options.get("train", {}).get("scheduler") or {}):
        force.append(f"train:scheduler:periods=[{budget.iterations}]")
    if "val" in entry.options.get("datasets", {}):
        force.append(f"datasets:val:dataroot_gt={budget.val}")
    line = [sys.executable, "-m", "gcfsr_arch.train", "-opt", str(entry.path.resolve()), "--auto_resume"]
    return [*line, "--force_yml", *force]


def train(entry: Entry, budget: Budget, out: Path) -> dict[str, Any]:
    """Trains one option file unless its last network exists, and resumes a stopped run.

    Returns:
        The note beside the run: hash of the option file, budget, seconds of training.

    Raises:
        GCFSRError: the folder holds a run of another budget or file, its note is damaged, or the trainer
            stopped with an error.
    """
    runs = out.resolve() / "runs"
    make_folder(runs, "--out")
    note_path, latest = runs / f"{entry.name}.json", network_file(entry, out)
    note = {"options": file_hash(entry.path), "iterations": budget.iterations, "seed": budget.seed, "seconds": 0.0}
    if note_path.exists():
        try:
            earlier = read_document(note_path, TypeAdapter(_Note), "a note of `gcfsr bench-train`").model_dump()
        except GCFSRError as error:
            raise GCFSRError(f"{error}; choose another --out") from error
        if any(earlier[key] != note[key] for key in ("options", "iterations", "seed")):
            raise GCFSRError(f"{out}: holds {entry.name} trained with another file or budget; choose another --out")
        note = earlier
    if latest.exists():
        return note
    write_json(note_path, note)
    environment = {**os.environ, "OMP_NUM_THREADS": str(budget.threads)}
    start = time.monotonic()
    try:
        with (runs / f"{entry.name}.txt").open("a") as log:
            line = command(entry, budget, runs)
            done = subprocess.run(line, cwd=runs, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)
    finally:  # an interrupted run is resumed later, and its seconds count
        note["seconds"] += time.monotonic() - start
        write_json(note_path, note)
    if done.returncode or not latest.exists():
        log_path = runs / f"{entry.name}.txt"
        raise GCFSRError(f"{entry.path}: the trainer stopped (status {done.returncode}); see {log_path}")
    return note


def network_file(entry: Entry, out: Path) -> Path:
    """The path of the last network that the trainer writes."""
    return out.resolve() / "runs" / entry.name / "models" / "net_g_latest.pth"


def as_generator(entry: Entry, out: Path) -> Path:
    """Writes the run's moving average as a checkpoint with the option file's network in its metadata."""
    from gcfsr_arch import GCFSR, save_generator
    from gcfsr_arch.checkpoint import read_state
    from gcfsr_arch.state_dict import fit

    target = out / f"{entry.name}.safetensors"
    if target.exists():
        return target
    net = GCFSR(**{key: value for key, value in entry.options["network_g"].items() if key != "type"})
    fit(net, read_state(network_file(entry, out))[0], network_file(entry, out))
    save_generator(net, target)
    return target


def measure(entries: list[Entry], files: list[Path], budget: Budget, out: Path, how: tuple[Any, ...]) -> dict[str, Any]:
    """Evaluates the networks beside bicubic; `how` is factors, metrics, weights' folder and groups."""
    factors, metrics, weights, groups = how
    methods = ("bicubic", *(f"{entry.name}={file}" for entry, file in zip(entries, files, strict=True)))
    settings = Settings(
        gt=str(budget.val), out=str(out / "evaluation"), protocol=Protocol("factors", parse_factors(factors)),
        methods=methods, metrics=tuple(metrics), weights=weights, seed=budget.seed, groups=tuple(groups),
        out_size=entries[0].options["network_g"]["out_size"],
    )  # fmt: skip
    torch.set_num_threads(budget.threads)
    return evaluate(settings)


def bench_train(
    paths: Sequence[str], budget: Budget, out: Path, factors: str, metrics: Sequence[str], weights: str | None,
    groups: Sequence[str] = (), tell: Any = print,
) -> dict[str, Any]:  # fmt: skip
    """Trains every option file, evaluates the networks on the validation faces and writes one report.

    Args:
        paths: option files; the first is the one the others are compared with.
        budget: what each gets.
        out: folder; a stopped bench is resumed there.
        factors: conditions of the evaluation, as for `gcfsr evaluate --factors`.
        metrics: keys of the metrics.
        weights: folder of the metrics' weights.
        groups: parts to be reported apart.
        tell: called with a line for each step.

    Returns:
        The report, as written to bench.json.
    """
    entries = read_entries(paths)
    notes, files = [], []
    for entry in entries:
        tell(f"{entry.name}: {budget.iterations} iterations")
        notes.append(train(entry, budget, out))
        files.append(as_generator(entry, out))
    report = measure(entries, files, budget, out, (factors, metrics, weights, groups))
    pairs = [(entries[0].name, entry.name) for entry in entries[1:]]
    bench = {
        "iterations": budget.iterations, "seed": budget.seed, "threads": budget.threads,
        "train_images": len(list_images(budget.train)),
        "entries": [_summary(entry, note) for entry, note in zip(entries, notes, strict=True)],
        "comparisons": compare(report, report, pairs) if pairs else [],
    }  # fmt: skip
    write_json(out / "bench.json", bench)
    write_bytes_atomic(out / "bench.md", bench_text(bench, report).encode())
    return bench


def _summary(entry: Entry, note: dict[str, Any]) -> dict[str, Any]:
    from gcfsr_inference.evaluation.inventory import take_inventory

    network = {key: value for key, value in entry.options["network_g"].items() if key != "type"}
    return {
        "name": entry.name, "file": entry.path.name, "changes": list(entry.changes), "sha256": note["options"],
        "parameters": take_inventory(network).parameters, "seconds": round(note["seconds"]),
    }  # fmt: skip


def bench_text(bench: dict[str, Any], report: dict[str, Any]) -> str:
    """The bench as one Markdown page: budget, what each file changes, the evaluation, the paired tests."""
    lines = [
        "# Option files trained on one budget",
        "",
        f"Each: {bench['iterations']} iterations, seed {bench['seed']}, {bench['threads']} thread(s), "
        f"{bench['train_images']} training images. Seconds are wall-clock times.",
        "",
        "| run | changes against the first | parameters | seconds |",
        "|---|---|---|---|",
    ]
    for entry in bench["entries"]:
        what = "; ".join(entry["changes"]) or "-"
        lines.append(f"| {entry['name']} | {what} | {entry['parameters']:,} | {entry['seconds']} |")
    seeds = "One training each: the tests compare these networks, not other seeds."
    tests = ["## Paired tests against the first", "", seeds, "", comparison_text(bench["comparisons"])]
    tests = tests if bench["comparisons"] else []
    return "\n".join([*lines, "", *tests, "", markdown(report, "Evaluation").replace("\n## ", "\n### ")])
