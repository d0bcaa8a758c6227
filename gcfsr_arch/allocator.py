"""Memory of the CPU: keep freed blocks instead of returning them to the system."""

import ctypes
import sys

# <malloc.h>
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
NEVER = -1  # a threshold is an int: any number, 2 GB at most, is less than a batch of large faces leaves free


def keep_freed_memory() -> bool:
    """Lets glibc reuse large freed blocks for the rest of the process.

    By default every block over 32 MB is mapped afresh and its pages are faulted in at first touch, which costs more
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
