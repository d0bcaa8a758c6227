"""The network that a command's options name."""

import os

from gcfsr_arch.devices import choose_device, keep_freed_memory
from gcfsr_inference.backends.backend import precision_note
from gcfsr_inference.console import detail, note
from gcfsr_inference.restore.restorer import Restorer


def open_restorer(
    checkpoint: str | os.PathLike | None,
    device: str = "auto",
    dtype: str = "fp32",
    backend: str = "torch",
    compiled: bool = False,
    kept: int = 1,
) -> Restorer:
    """`Restorer.load` for a command: freed memory stays with the process, and a slow precision is named.

    Raises:
        GCFSRError: as of `Restorer.load`.
    """
    keep_freed_memory()
    device = choose_device(device, backend)
    restorer = Restorer.load(checkpoint, device, dtype, backend, compiled, kept)
    if warning := precision_note(backend, device, dtype):
        note(f"gcfsr: {warning}", error=True)
    dial = "blind" if restorer.blind else f"factors {restorer.min_factor:g} to {restorer.max_factor:g}"
    detail(f"{restorer.path}: {restorer.out_size}x{restorer.out_size}, {dial}, by {backend} on {device}")
    return restorer
