"""The thread that reads ahead and the DataLoader workers: their errors are reported, and none outlives the trainer."""

import multiprocessing
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import cv2
from basicsr.data import worker_init_fn

from gcfsr_arch.errors import GCFSRError, first_line

Batch = dict[str, Any]


def read_ahead(batches: Iterator[Batch], ahead: int) -> Iterator[Batch]:
    """The same batches, read by a thread; an error in the thread is raised here instead of waiting forever."""
    ready: queue.Queue[tuple[Batch | None, BaseException | None]] = queue.Queue(ahead)

    def read() -> None:
        try:
            for batch in batches:
                ready.put((batch, None))
            ready.put((None, None))
        except BaseException as error:  # noqa: BLE001 - carried to the reader, which raises it
            ready.put((None, error))

    threading.Thread(target=read, daemon=True).start()
    while True:
        batch, error = ready.get()
        if error is not None:
            raise error
        if batch is None:
            return
        yield batch


def worker_death(error: BaseException | None) -> GCFSRError | None:
    """Error message for a dead DataLoader worker; None for any other error.

    torch raises it at any point of the trainer, for example while it writes a checkpoint: then it is the cause
    or context of that error.
    """
    if error is None:
        return None
    if not isinstance(error, RuntimeError) or "DataLoader worker" not in str(error):
        return worker_death(error.__cause__ or error.__context__)
    return GCFSRError(
        f"datasets.train: a worker died ({first_line(error)}); the machine may be short of memory: "
        "lower num_worker_per_gpu, then resume with --auto_resume"
    )


def kill_workers() -> None:
    """Kills the workers that are left when the trainer ends: they ignore SIGTERM, so Python would wait forever."""
    if hasattr(signal, "SIGCHLD"):  # not on Windows
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would report their end as an error
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def ignore_lost_trainer(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """`sys.excepthook` of a worker: when the trainer stops, the thread that sends it tensors loses its connection."""
    if not isinstance(error, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


def start_worker(worker_id: int, **seeding: Any) -> None:
    """Seeds a worker as BasicSR does; Ctrl-C and SIGTERM are left to the trainer, which finishes an iteration first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.excepthook = ignore_lost_trainer
    cv2.setNumThreads(0)  # the processes are the parallelism
    worker_init_fn(worker_id, **seeding)
