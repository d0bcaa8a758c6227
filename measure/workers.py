"""Runs a function over items in worker processes."""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import get_context
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """Maps a function over items in the items' order: in this process where `jobs` is below 2, otherwise in workers.

    Args:
        jobs: number of worker processes, of `worker_pool`.
    """

    def __init__(self, jobs: int):
        self.jobs, self.stack = jobs, ExitStack()
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        if self.jobs > 1:
            self.pool = self.stack.enter_context(worker_pool(self.jobs, _one_thread))
        return self

    def __exit__(self, *error: Any) -> None:
        self.stack.__exit__(*error)

    def map(self, function: Callable[[T], R], items: Iterable[T], ahead: int = 4) -> Iterator[R]:
        """Yields results as they become due; only a few items are in flight, so any number of them fits in memory."""
        if self.pool is None:
            yield from map(function, items)
            return
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(self.pool.submit(function, item))
            if len(waiting) >= ahead * self.jobs:
                yield waiting.popleft().result()
        for future in waiting:
            yield future.result()


@contextmanager
def worker_pool(jobs: int, prepare: Callable[[], None] | None = None) -> Iterator[ProcessPoolExecutor]:
    """Worker processes, which are spawned, so they are safe beside CUDA and threads.

    They end at once and print nothing when this process dies, or gets Ctrl-C, SIGTERM or SIGHUP within the block.

    Args:
        jobs: their number.
        prepare: called in each of them first.

    Raises:
        KeyboardInterrupt, SystemExit: Ctrl-C; SIGTERM or SIGHUP, with the status 128 + number.
    """
    context = get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    with _signals_raise(), reader, writer, ProcessPoolExecutor(jobs, context, _begin, (reader, prepare)) as pool:
        try:
            with _interrupts_wait():
                for _ in range(jobs):  # starts the processes
                    pool.submit(int)
            yield pool
        except (KeyboardInterrupt, SystemExit):
            writer.close()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _signals_raise() -> Iterator[None]:
    """SIGTERM and SIGHUP raise SystemExit of their status, 128 + number, where they would end this process alone."""
    main = threading.current_thread() is threading.main_thread()  # only there are signals handled
    numbers = {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)} if main else set()
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


def _begin(pipe: Any, prepare: Callable[[], None] | None) -> None:
    """A worker's first call: from now on it ends when its parent closes the other end of the connection, or dies."""

    def follow() -> None:
        with suppress(EOFError):
            pipe.recv()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    if prepare is not None:
        prepare()


def _one_thread() -> None:
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
