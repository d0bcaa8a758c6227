"""Loads torch and BasicSR once and forks a process for every run of the stock train.py: starting one costs no seconds.

Reads one JSON line per run from stdin: argv, cwd and log; writes the run's process id and, once it has ended, its exit
status (negative: the signal that killed it). A run is a process of its own in a session of its own.
"""

import ctypes
import json
import os
import runpy
import signal
import sys

import basicsr.train
import torch
from torch.utils.tensorboard import SummaryWriter  # noqa: F401


def end_with_parent() -> None:
    """Has this process killed when the one that started it ends, so that nothing outlives a test."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


SCRIPT = basicsr.train.__file__
torch.set_num_threads(1)
end_with_parent()
print("ready", flush=True)
run = None
for line in sys.stdin:
    run = json.loads(line)
    child = os.fork()
    if child == 0:
        break
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    run = None

if run is not None:
    end_with_parent()
    os.setsid()
    os.chdir(run["cwd"])
    log = os.open(run["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    sys.argv = [SCRIPT, *run["argv"]]
    runpy.run_path(SCRIPT, run_name="__main__")
