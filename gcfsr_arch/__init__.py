"""The networks of GCFSR in pure PyTorch. Names are imported on first use, so `gcfsr_arch.errors` costs nothing."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gcfsr_arch.checkpoint import load_generator, save_generator
    from gcfsr_arch.discriminator import GCFSRDiscriminator
    from gcfsr_arch.errors import GCFSRError
    from gcfsr_arch.generator import GCFSR, Features

__version__ = "0.1.0"

_HOMES = {
    "GCFSR": "generator",
    "Features": "generator",
    "GCFSRDiscriminator": "discriminator",
    "GCFSRError": "errors",
    "load_generator": "checkpoint",
    "save_generator": "checkpoint",
}

__all__ = ["GCFSR", "Features", "GCFSRDiscriminator", "GCFSRError", "load_generator", "save_generator"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gcfsr_arch' has no attribute {name!r}")
    return getattr(import_module(f"gcfsr_arch.{_HOMES[name]}"), name)
