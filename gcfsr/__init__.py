"""The Python interface of `gcfsr`: `from gcfsr import Restorer, GCFSR, load_generator`.

Names are imported on first use: `import gcfsr` alone loads neither torch nor OpenCV.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gcfsr_arch import __version__

if TYPE_CHECKING:
    from gcfsr_arch import GCFSR, GCFSRError, load_generator, save_generator
    from gcfsr_inference import PhotoOptions, RestoreBatch, Restorer, estimate_factor, restore_photo

_HOMES = {
    "GCFSR": "gcfsr_arch",
    "GCFSRError": "gcfsr_arch",
    "PhotoOptions": "gcfsr_inference",
    "RestoreBatch": "gcfsr_inference",
    "Restorer": "gcfsr_inference",
    "estimate_factor": "gcfsr_inference",
    "load_generator": "gcfsr_arch",
    "restore_photo": "gcfsr_inference",
    "save_generator": "gcfsr_arch",
}

__all__ = [
    "GCFSR",
    "GCFSRError",
    "PhotoOptions",
    "RestoreBatch",
    "Restorer",
    "__version__",
    "estimate_factor",
    "load_generator",
    "restore_photo",
    "save_generator",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gcfsr' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
