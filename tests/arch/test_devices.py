"""Freed memory stays with the process: measured in one of its own, since the setting lasts."""

import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource
from gcfsr_arch.devices import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.memset.argtypes, libc.free.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t], [ctypes.c_void_p]

def faults(size):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(size)
    libc.memset(block, 1, size)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
print(*(faults({size}) for _ in range(3)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="freed memory is kept with glibc on Linux only")
@pytest.mark.parametrize("size", [100 << 20, 2200 << 20])  # the second is more than a threshold can be, an int
def test_freed_memory_is_not_faulted_in_again(size: int, outside: dict[str, str]) -> None:
    command = [sys.executable, "-c", FAULTS.format(size=size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=outside)
    first, *later = map(int, done.stdout.split())
    assert max(later) < first / 100, done.stdout
