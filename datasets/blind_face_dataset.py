"""Pairs of a face and its blind degradation (GFPGAN's), for a network with a fixed dial."""

import numpy as np
import torch
from torch import Tensor

from gcfsr_datasets.dataset_options import BlindOptions
from gcfsr_datasets.degradation import apply_blind, enlarge_and_tint
from gcfsr_datasets.degradation.blind_parameters import draw_blind
from gcfsr_datasets.degradation.conditions import conditions_of
from gcfsr_datasets.degradation.second_order import degrade_twice
from gcfsr_datasets.face_dataset import FaceDataset, dial_at, to_planes


class BlindFaceDegradationDataset(FaceDataset):
    """Samples: lq, gt (3, S, S) RGB in [-1, 1]; s = 1 and factor, scalars; conditions; lq_path, gt_path.

    `factor` is the ratio of the downsampling, at least 1. `conditions` (4,) are those of `conditions_of`; their factor
    is it over the largest one of its range. With `second_order` there are none.
    """

    schema = BlindOptions
    options: BlindOptions

    def sample(self, image: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        gt = image if image.dtype == np.float32 else image.astype(np.float32) / 255
        options, draw = self.options, draw_blind(rng, self.options)
        if options.second_order is not None and rng.random() < options.second_order.prob:
            height, width = (max(1, int(side / draw.downsample)) for side in gt.shape[:2])
            small = degrade_twice(gt, rng, options.second_order, (height, width))
            lq = enlarge_and_tint(small, gt.shape[:2], draw)
        else:
            lq = apply_blind(gt, draw, rng, options.blur_kernel_size)
        factor = max(draw.downsample, 1.0)
        sample = {"lq": torch.from_numpy(to_planes(lq)), "gt": torch.from_numpy(to_planes(image)), **self.dial(factor)}
        if options.second_order is None:  # which has no strengths that the conditions could tell
            top = options.downsample_range[1]
            sample["conditions"] = conditions_of(factor, top, draw, options)
        return sample

    def dial(self, factor: float) -> dict[str, Tensor]:
        return dial_at(factor, factor)  # s = 1
