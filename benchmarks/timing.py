"""Fair timing: all candidates in one process, in turn, medians; and what the machine is. Linux for memory."""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F

CONV_SHAPES = ((64, 256), (128, 128), (256, 64), (512, 32), (512, 64))  # channels, size: large 3x3 convolutions
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_tile")


def interleaved(candidates: Mapping[str, Callable[[], object]], runs: int = 5, warmup: int = 1) -> dict[str, float]:
    """Median seconds of each candidate; A B C A B C ..., so that a machine's drift affects all equally.

    With one thread it is processor time, which other programs on the machine hardly change; with more, wall time.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for _ in range(warmup):
        for call in candidates.values():
            call()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(runs):
        for name, call in candidates.items():
            start = clock()
            call()
            times[name].append(clock() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def convolution_peak(runs: int = 5, dtype: torch.dtype = torch.float32) -> float:
    """FLOP/s of the fastest large 3x3 convolution, over shapes and both memory formats (one MAC is two FLOP)."""
    best = 0.0
    for channels, size in CONV_SHAPES:
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(1, channels, size, size).to(dtype, memory_format=layout)
            weight = torch.randn(channels, channels, 3, 3).to(dtype, memory_format=layout)
            call = {"conv": lambda x=x, weight=weight: F.conv2d(x, weight, padding=1)}
            best = max(best, 2 * 9 * channels**2 * size**2 / interleaved(call, runs, warmup=2)["conv"])
    return best


def peak_memory(code: str) -> float:
    """Peak resident bytes of a fresh Python process that runs `code`, less those of importing torch and gcfsr."""

    def run(body: str) -> int:
        # VmHWM and not ru_maxrss, which a child inherits from its parent
        tail = "\nprint(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
        head = "import torch, gcfsr_arch.generator\n"
        done = subprocess.run([sys.executable, "-c", head + body + tail], capture_output=True, text=True, check=True)
        return int(done.stdout.split()[-1]) * 1024

    return run(code) - run("")


def machine() -> str:
    """One line: processor, instruction sets, cores, torch."""
    name, flags = platform.processor() or platform.machine(), ""
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
        rows = {key.strip(): value.strip() for key, value in fields.items()}
        name, flags = rows.get("model name", name), rows.get("flags", "")
    sets = " ".join(flag for flag in FLAGS if flag in flags.split())
    isa = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    limit = f", limited to {isa}" if isa else ""
    threads = torch.get_num_threads()
    clock = "processor time of one thread" if threads == 1 else f"wall time, {threads} threads"
    return f"{name} ({sets}{limit}), {clock}, torch {torch.__version__}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is the heading."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
