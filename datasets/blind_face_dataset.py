"""Pairs of a face and its blind degradation (GFPGAN's), for a network with a fixed dial."""

import numpy as np
import torch
from torch import Tensor

from gcfsr_datasets.dataset_options import BlindOptions
from gcfsr_datasets.degradation import apply_blind
from gcfsr_datasets.degradation.blind_parameters import draw_blind
from gcfsr_datasets.degradation.conditions import conditions_of
from gcfsr_datasets.face_dataset import FaceDataset, to_planes


class BlindFaceDegradationDataset(FaceDataset):
    """Samples: lq, gt (3, S, S) RGB in [-1, 1]; s = 1 and factor = 1, scalars; conditions; lq_path, gt_path.

    `conditions` (4,) are those of `conditions_of`; their factor is the ratio of the downsampling, at least 1, over the
    largest one of its range.
    """

    schema = BlindOptions
    options: BlindOptions

    def sample(self, image: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        gt = image if image.dtype == np.float32 else image.astype(np.float32) / 255
        draw = draw_blind(rng, self.options)
        lq = apply_blind(gt, draw, rng, self.options.blur_kernel_size)
        return {
            "lq": torch.from_numpy(to_planes(lq)),
            "gt": torch.from_numpy(to_planes(image)),
            "s": torch.ones(()),
            "factor": torch.ones(()),
            "conditions": conditions_of(
                max(draw.downsample, 1.0), self.options.downsample_range[1], draw, self.options
            ),
        }
