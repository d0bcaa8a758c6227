"""Restoring faces. Names are imported on first use, so `gcfsr --help` loads no network."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gcfsr_inference.photo.batch import RestoreBatch
    from gcfsr_inference.photo.photograph import PhotoOptions, restore_photo
    from gcfsr_inference.restore.autofactor import effective_size, estimate_factor
    from gcfsr_inference.restore.restorer import Restorer

_HOMES = {
    "PhotoOptions": "photo.photograph",
    "RestoreBatch": "photo.batch",
    "Restorer": "restore.restorer",
    "effective_size": "restore.autofactor",
    "estimate_factor": "restore.autofactor",
    "restore_photo": "photo.photograph",
}

__all__ = ["PhotoOptions", "RestoreBatch", "Restorer", "effective_size", "estimate_factor", "restore_photo"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gcfsr_inference' has no attribute {name!r}")
    return getattr(import_module(f"gcfsr_inference.{_HOMES[name]}"), name)
