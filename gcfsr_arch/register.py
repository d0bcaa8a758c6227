"""The one door to BasicSR: every name that its option files may use for ours. Importing this module registers.

`gcfsr_autoload` imports it once BasicSR's models are loaded; importing it first loads BasicSR. Registering twice is
harmless, and a name that somebody else holds already (the authors' own fork of BasicSR, say) stays theirs.
"""

from typing import Any

import gcfsr_autoload

gcfsr_autoload.install()  # BasicSR's import fails on today's torchvision without it

from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY  # noqa: E402

from gcfsr_arch.discriminator import GCFSRDiscriminator  # noqa: E402
from gcfsr_arch.generator import GCFSR  # noqa: E402
from gcfsr_arch.training import metrics, released, stock  # noqa: E402
from gcfsr_arch.training.features import FeatureDiscriminator  # noqa: E402
from gcfsr_arch.training.model import GCFSRModel  # noqa: E402
from gcfsr_datasets.blind_face_dataset import BlindFaceDegradationDataset  # noqa: E402
from gcfsr_datasets.multi_factor_dataset import MultiFactorDegradationDataset  # noqa: E402
from gcfsr_datasets.photograph_dataset import PhotographDegradationDataset  # noqa: E402

OURS: dict[Any, tuple[Any, ...]] = {
    ARCH_REGISTRY: (
        GCFSR,
        GCFSRDiscriminator,
        FeatureDiscriminator,
        released.GCFSR_blind,
        released.StyleGAN2Discriminator_no_std,
    ),
    DATASET_REGISTRY: (
        MultiFactorDegradationDataset,
        BlindFaceDegradationDataset,
        PhotographDegradationDataset,
        released.FFHQ_control_Dataset,
        released.SingleImage_GT_Dataset,
    ),
    MODEL_REGISTRY: (GCFSRModel, released.GCFSR_Model),
    METRIC_REGISTRY: metrics.METRICS,
}


def register() -> None:
    """Makes all of the above known to BasicSR and hooks its pipeline for our models."""
    for registry, things in OURS.items():
        for thing in things:
            if thing.__name__ not in registry:
                registry.register(thing)
    stock.install()


register()
