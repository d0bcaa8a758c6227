"""`gcfsr restore` in several processes: shares of one list, on this machine (`--jobs`) or on several (`--shard`)."""

import os
import time
from argparse import Namespace
from concurrent.futures import FIRST_EXCEPTION, wait
from concurrent.futures.process import BrokenProcessPool

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.files import remove_stale
from gcfsr_inference import console
from gcfsr_inference.commands.restore import manifest
from gcfsr_inference.commands.restore.plan import Plan, plan
from gcfsr_measure.workers import worker_pool


def restore_jobs(todo: Plan) -> int:
    """Restores in `--jobs` processes, each with its share of the list, of the CPUs' threads, and of the GPUs.

    Raises:
        GCFSRError: what one of them raised, or one of them died.
        KeyboardInterrupt, SystemExit: Ctrl-C; SIGTERM or SIGHUP. All of them have ended.
    """
    try:
        todo.outputs.prepare(todo.outputs.root)
        return _run_jobs(todo)
    except (KeyboardInterrupt, SystemExit):
        for folder in {path.parent for path in todo.outputs.root.rglob(".*.partial")}:
            remove_stale(folder)
        raise
    finally:
        todo.outputs.close()


def _run_jobs(todo: Plan) -> int:
    args, folder = todo.args, todo.outputs.root
    first, count = todo.part or (1, 1)
    total = len(manifest.share_of(todo.sources, todo.part))
    threads = max(1, len(os.sched_getaffinity(0)) // args.jobs) if hasattr(os, "sched_getaffinity") else 1
    shares = [f"{(first - 1) * args.jobs + job + 1}/{count * args.jobs}" for job in range(args.jobs)]
    replaces = args.report and not args.skip_existing and count == 1  # an earlier report
    if replaces:
        manifest.begin_report(folder, resume=False)
    before, started = len(manifest.read_all(folder)), time.monotonic()
    lines, faces, seconds = [], 0, 0.0
    with worker_pool(args.jobs) as pool:
        tasks = [
            pool.submit(_restore_share, Namespace(**{**vars(args), "shard": text}), threads, job)
            for job, text in enumerate(shares)
        ]
        left = set(tasks)
        while left:
            done, left = wait(left, timeout=manifest.EVERY, return_when=FIRST_EXCEPTION)
            lines, seconds = manifest.read_all(folder)[before:], time.monotonic() - started
            faces = sum(map(manifest.restored_faces, lines))
            if replaces and any("output" in line for line in lines):
                (folder / manifest.REPORT).unlink(missing_ok=True)
            if lines and left:
                console.note(manifest.speed(len(lines), faces, total, seconds), error=True)
            failed = next((task for task in done if task.exception()), None)
            if failed is not None:
                pool.shutdown(wait=False, cancel_futures=True)
                if isinstance(failed.exception(), BrokenProcessPool):
                    raise GCFSRError("a process of --jobs was killed; resume with --skip-existing, or with fewer jobs")
    console.note(manifest.summary(len(lines), faces, total - len(lines), seconds), error=True)
    if count == 1:
        manifest.join(folder)
    return max(task.result() for task in tasks)


def _restore_share(args: Namespace, threads: int, job: int) -> int:
    """One process: its threads and its GPU."""
    import cv2
    import torch

    from gcfsr_inference.commands.restore.loop import restore

    console.prepare()
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    if args.device in ("auto", "cuda") and args.backend == "torch" and torch.cuda.is_available():
        args.device = f"cuda:{job % torch.cuda.device_count()}"
    console.set_level(quiet=True)  # the parent process lists skipped files and prints the progress
    todo = plan(args)
    console.set_level(args.quiet, args.verbose)
    return restore(todo)
