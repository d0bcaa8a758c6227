"""Which arithmetic a device has."""

import re
from pathlib import Path

import torch

CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}  # of x86 and of ARM processors, as Linux names them
CPUINFO = Path("/proc/cpuinfo")


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
