"""The work of `gcfsr restore`: every input in turn; one that fails does not stop the others."""

from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from gcfsr_inference.commands.restore import sidecar
from gcfsr_inference.commands.restore.aligned import load_aligned, restore_together, write_aligned
from gcfsr_inference.commands.restore.context import Restored, RestoreRun, load, open_run
from gcfsr_inference.commands.restore.files import Source
from gcfsr_inference.commands.restore.manifest import (
    REPORT,
    Manifest,
    begin_report,
    read_report,
    settings_hash,
    share_of,
)
from gcfsr_inference.commands.restore.plan import Plan
from gcfsr_inference.commands.restore.report import Report, progress
from gcfsr_inference.commands.restore.whole import restore_whole


def restore(plan: Plan) -> int:
    """Restores every input; returns 0, or 2 where one failed.

    Raises:
        GCFSRError: an option is invalid, or the only input failed.
    """
    run = open_run(plan)
    sources = share_of(run.sources, run.part)
    manifest = open_manifest(run, len(sources))
    path = report_path(run)
    if path and not run.part:
        begin_report(run.outputs.root, run.args.skip_existing)
    former = read_report(path) if path and run.args.skip_existing else []
    write = path and partial(run.outputs.write_bytes, path)
    report = Report(write, run.args.debug, former, manifest and manifest.add)
    left = iter(manifest.remaining(sources) if manifest else sources)
    size = run.args.batch if run.args.aligned else 1
    try:
        with progress(len(sources)) as advance:
            while group := list(islice(left, size)):
                (restore_aligned if run.args.aligned else restore_each)(run, group, report)
                advance(len(group))
    finally:
        report.store()
        if manifest:
            manifest.close()
        run.outputs.close()
    return report.close(len(run.sources))


def open_manifest(run: RestoreRun, total: int) -> Manifest | None:
    """The manifest of a run that may be resumed or is one of several; None for others.

    Raises:
        GCFSRError: a manifest cannot be read or written.
    """
    args, outputs = run.args, run.outputs
    if not (args.skip_existing or run.part):
        return None
    outputs.prepare(outputs.root)
    settings = settings_hash(args, run.runner.restorer.checkpoint_hash)
    return Manifest(
        outputs.root, run.part, settings, args.sidecar, args.skip_existing, total, announce=args.jobs == 1
    )  # fmt: skip


def restore_each(run: RestoreRun, sources: Sequence[Source], report: Report) -> None:
    """Restores photographs and videos."""
    for source in sources:
        with report.collecting(source.name):
            report.add(finish(run, restore_source(run, source)))


def restore_source(run: RestoreRun, source: Source) -> Restored:
    """Restores one photograph or video."""
    if source.path is not None and source.is_video:
        from gcfsr_inference.commands.restore.clip import restore_clip

        return restore_clip(run, source, source.path)
    return restore_whole(run, load(run, source))


def restore_aligned(run: RestoreRun, sources: Sequence[Source], report: Report) -> None:
    """Restores aligned faces in one pass."""
    loaded = []
    for source in sources:
        with report.collecting(source.name):
            loaded.append(load_aligned(run, source))
    for one, face in zip(loaded, restore_together(run, loaded) if loaded else [], strict=False):
        with report.collecting(one.source.name):
            if isinstance(face, Exception):
                raise face
            report.add(finish(run, write_aligned(run, one, face)))


def finish(run: RestoreRun, done: Restored) -> dict[str, Any]:
    """Writes the sidecar, if one is wanted; returns the report's entry."""
    if run.args.sidecar and done.output is not None:
        content = sidecar.build(
            run.args, done.source.path, done.input_hash, run.runner.restorer.checkpoint_hash, done.faces,
            done.output, done.output_hash, done.aligned,
        )  # fmt: skip
        run.outputs.write_bytes(done.output.with_suffix(".json"), sidecar.dump(content))
    return {"input": done.source.name, "output": str(done.output or "-"), "faces": done.faces}


def report_path(run: RestoreRun) -> Path | None:
    """report.json (beside a single result NAME.report.json); None where none is wanted."""
    outputs = run.outputs
    if not run.args.report or outputs.to_stdout:
        return None
    single = outputs.single and outputs.beside(run.sources[0], outputs.single, ".report.json")
    return single or outputs.root / (f"report.{run.part[0]}-of-{run.part[1]}.json" if run.part else REPORT)
