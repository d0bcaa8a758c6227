"""Which device `auto` is, and which GPU a process of several takes."""

import os

import torch


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
