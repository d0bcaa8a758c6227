"""Registers our classes with BasicSR under the names that option files use. Importing this module registers.

`gcfsr_autoload` imports it once BasicSR's models are loaded; importing it first loads BasicSR. Registering twice is
harmless, and a name that another package has registered already (the authors' fork of BasicSR, say) is left alone.
"""

from importlib import import_module
from typing import Any

from gcfsr_arch.discriminator import GCFSRDiscriminator
from gcfsr_arch.generator import GCFSR
from gcfsr_arch.training import hooks, metrics, released
from gcfsr_arch.training.losses.features import FeatureDiscriminator
from gcfsr_arch.training.model import GCFSRModel
from gcfsr_datasets.blind_face_dataset import BlindFaceDegradationDataset
from gcfsr_datasets.multi_factor_dataset import MultiFactorDegradationDataset
from gcfsr_datasets.photograph_dataset import PhotographDegradationDataset

OURS: dict[str, tuple[Any, ...]] = {
    "ARCH_REGISTRY": (
        GCFSR,
        GCFSRDiscriminator,
        FeatureDiscriminator,
        released.GCFSR_blind,
        released.StyleGAN2Discriminator_no_std,
    ),
    "DATASET_REGISTRY": (
        MultiFactorDegradationDataset,
        BlindFaceDegradationDataset,
        PhotographDegradationDataset,
        released.FFHQ_control_Dataset,
        released.SingleImage_GT_Dataset,
    ),
    "MODEL_REGISTRY": (GCFSRModel, released.GCFSR_Model),
    "METRIC_REGISTRY": metrics.METRICS,
}


def register() -> None:
    """Registers all of the above and replaces BasicSR's `parse_options`, which acts for our models alone."""
    registries = import_module("basicsr.utils.registry")
    for name, classes in OURS.items():
        registry = getattr(registries, name)
        for cls in classes:
            if cls.__name__ not in registry:
                registry.register(cls)
    hooks.install()


register()
