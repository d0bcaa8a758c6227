"""The thread that reads ahead and the processes that load: what fails in them is told, and none is left behind."""

import multiprocessing
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from basicsr.data import worker_init_fn

from gcfsr_arch.errors import GCFSRError

Batch = dict[str, Any]


def read_ahead(batches: Iterator[Batch], ahead: int) -> Iterator[Batch]:
    """The same batches, read by a thread; what fails in the thread is raised here instead of waiting for ever."""
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


def told_loading_fault(error: BaseException | None) -> GCFSRError | None:
    """The words for a loading process that died, which torch raises wherever the trainer stands; None for others.

    That may be within the writing of a checkpoint, whose own fault then has it for its cause or context.
    """
    if error is None:
        return None
    if not isinstance(error, RuntimeError) or "DataLoader worker" not in str(error):
        return told_loading_fault(error.__cause__ or error.__context__)
    return GCFSRError(
        f"datasets.train: a loading process died ({str(error).splitlines()[0]}); the machine may be short of memory: "
        "lower num_worker_per_gpu, then go on with --auto_resume"
    )


def end_loading_processes() -> None:
    """Ends those that are left when the trainer ends: they pass over SIGTERM, with which Python would wait for ever."""
    if hasattr(signal, "SIGCHLD"):  # not on Windows
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler takes their end for a fault
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def pass_over_lost_peer(kind: type[BaseException], fault: BaseException, trace: TracebackType | None) -> None:
    """`sys.excepthook` of a loading process: when the trainer stops, the thread that hands tensors over loses it."""
    if not isinstance(fault, ConnectionError | EOFError):
        sys.__excepthook__(kind, fault, trace)


def start_worker(worker_id: int, **seeding: Any) -> None:
    """Seeds a loading process as BasicSR does and leaves Ctrl-C and SIGTERM to the trainer, which finishes first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.excepthook = pass_over_lost_peer
    worker_init_fn(worker_id, **seeding)
