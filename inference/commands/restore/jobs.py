"""`gcfsr restore` in several processes: shares of one list, on this machine (`--jobs`) or on several (`--shard`)."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import Any

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.files import remove_stale
from gcfsr_inference import console
from gcfsr_inference.commands.restore import manifest
from gcfsr_inference.commands.restore.plan import Plan, plan


def restore_jobs(todo: Plan) -> int:
    """Restores in `--jobs` processes, each with its share of the list, of the CPUs' threads, and of the GPUs.

    Raises:
        GCFSRError: what one of them raised, or one of them died.
        KeyboardInterrupt, SystemExit: Ctrl-C; SIGTERM or SIGHUP. All of them have ended.
    """
    try:
        todo.outputs.prepare(todo.outputs.root)
        with _signals_raise():
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
    before, started = len(manifest.read_all(folder)), time.monotonic()
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    with reader, writer, ProcessPoolExecutor(args.jobs, context, _end_with_parent, (reader,)) as pool:
        try:
            with _interrupts_wait():
                tasks = [
                    pool.submit(_restore_share, Namespace(**{**vars(args), "shard": text}), threads, job)
                    for job, text in enumerate(shares)
                ]
            left = set(tasks)
            while left:
                done, left = wait(left, timeout=manifest.EVERY, return_when=FIRST_EXCEPTION)
                lines = manifest.read_all(folder)[before:]
                faces = sum(map(manifest.restored_faces, lines))
                if lines:
                    console.note(manifest.speed(len(lines), faces, total, time.monotonic() - started), error=True)
                failed = next((task for task in done if task.exception()), None)
                if failed is not None:
                    pool.shutdown(wait=False, cancel_futures=True)
                    if isinstance(failed.exception(), BrokenProcessPool):
                        raise GCFSRError(
                            "a process of --jobs was killed; resume with --skip-existing, or with fewer jobs"
                        )
        except (KeyboardInterrupt, SystemExit):
            writer.close()
            raise
    if count == 1:
        manifest.merge(folder)
    return max(task.result() for task in tasks)


@contextmanager
def _signals_raise() -> Iterator[None]:
    """SIGTERM and SIGHUP raise SystemExit of their status, 128 + number, where they would end this process alone."""
    numbers = {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
    changed = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in changed:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C waits for the end of the block, and processes that are started in it never get it."""
    masked = hasattr(signal, "pthread_sigmask")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if masked else None
    try:
        yield
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent(pipe: Any) -> None:
    """In a process of --jobs: it ends when the one that started it closes its end of the connection, or dies."""

    def follow() -> None:
        with suppress(EOFError):
            pipe.recv()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


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
