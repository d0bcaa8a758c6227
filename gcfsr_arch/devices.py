"""The machine: which device `auto` is, which arithmetic a device has, and whether freed memory is kept."""

import ctypes
import os
import re
import sys
from pathlib import Path

import torch

CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}  # of x86 and of ARM processors, as Linux names them
CPUINFO = Path("/proc/cpuinfo")
# <malloc.h>
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
NEVER = -1  # a threshold is an int: any number, 2 GB at most, is less than a batch of large faces leaves free


def choose_device(name: str, backend: str = "torch") -> str:
    """The device that a name means.

    Args:
        name: `auto` is CUDA where PyTorch has it, else the CPU. `cuda` is the process's own GPU under torchrun
            (LOCAL_RANK).
        backend: `auto` is the CPU for other backends than `torch`.
    """
    has_cuda = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if has_cuda and backend == "torch" else "cpu"
    rank = os.environ.get("LOCAL_RANK", "")
    return f"cuda:{int(rank) % torch.cuda.device_count()}" if name == "cuda" and has_cuda and rank.isdigit() else name


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 natively.

    A processor that does not emulates it, up to 25 times slower than float32 (benchmarks/README.md). Where the system
    does not name a processor's instruction sets (other than Linux), the answer is no.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return True
    return CPUINFO.is_file() and not CPU_FLAGS.isdisjoint(re.findall(r"\w+", CPUINFO.read_text()))


def keep_freed_memory() -> bool:
    """Lets glibc reuse large freed blocks for the rest of the process.

    By default every block over 32 MB is mapped anew and its pages are faulted in at first touch, which costs more
    than most of the arithmetic done on it: a copy of 64 MB takes 4 to 5 times as long (benchmarks/README.md). The
    process then keeps its peak memory until it ends.

    Returns:
        Whether it took effect: only on Linux with glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, NEVER) and mallopt(M_TOP_PAD, 64 << 20))
