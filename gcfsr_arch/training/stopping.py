"""SIGINT and SIGTERM as a request to stop, which a training loop obeys when an iteration is complete."""

import os
import signal
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from gcfsr_arch.training.engine import Later

AGAIN = 3.0  # seconds after which a second signal stops the run at once; torchrun passes Ctrl-C on twice


class StopRequest:
    """Notes SIGINT and SIGTERM; the same signal again, a while later, has its usual effect."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.since = 0.0
        self.asked: Later | None = None  # the largest number of the ranks in the iteration before
        self.before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self.note) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self.number is None:
            self.number, self.since = number, time.monotonic()
            os.write(2, b"\ngcfsr: finishing this iteration, then saving; the same signal again stops at once\n")
        elif time.monotonic() - self.since > AGAIN:
            signal.signal(number, self.before[number])
            os.kill(os.getpid(), number)

    def agreed(self, opt: Mapping[str, Any]) -> int | None:
        """The signal's number once any rank has one; of several ranks an iteration later, so that none waits for it."""
        if not opt["dist"]:
            return self.number
        asked, device = self.asked, "cuda" if dist.get_backend() == "nccl" else "cpu"
        shared = torch.full((1,), self.number or 0, device=device)
        dist.all_reduce(shared, op=dist.ReduceOp.MAX)
        self.asked = Later(shared)
        return None if asked is None else int(asked.read()[0]) or None
