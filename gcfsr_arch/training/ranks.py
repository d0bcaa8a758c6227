"""Values that the ranks of a distributed run exchange; with one process each function returns its argument."""

from typing import Any

import torch.distributed as dist


def is_distributed() -> bool:
    """Whether a process group has been started."""
    return dist.is_available() and dist.is_initialized()


def gathered(value: Any) -> list[Any]:
    """The value of every rank, on every rank."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def from_first_rank(value: Any) -> Any:
    """Rank 0's value, on every rank; the others wait for it."""
    if not is_distributed():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
