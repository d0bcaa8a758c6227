"""Runs a function over items in worker processes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """Maps a function over items in the items' order: in this process where `jobs` is below 2, otherwise in workers.

    Args:
        jobs: number of worker processes. They are spawned, so they are safe beside CUDA and threads.
    """

    def __init__(self, jobs: int):
        self.jobs = jobs
        self.pool = ProcessPoolExecutor(jobs, get_context("spawn"), _one_thread) if jobs > 1 else None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: Any) -> None:
        if self.pool:
            self.pool.shutdown(cancel_futures=True)

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


def _one_thread() -> None:
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
