"""Pairs of a face and its bicubic degradation by a factor that is drawn per sample (the paper's training data)."""

import numpy as np
import torch
from torch import Tensor

from gcfsr_datasets.dataset_options import MultiFactorOptions
from gcfsr_datasets.degradation import degrade_planes, draw_factor
from gcfsr_datasets.face_dataset import FaceDataset, dial_at, to_planes


class MultiFactorDegradationDataset(FaceDataset):
    """Samples: lq, gt (3, S, S) RGB in [-1, 1]; s = factor / max_factor and factor, scalars; lq_path, gt_path.

    `conditions` (4,) are those of `conditions_of`: s, and no other degradation.
    """

    schema = MultiFactorOptions
    options: MultiFactorOptions

    def sample(self, image: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        factor = self._draw_factor(rng)
        gt = to_planes(image)
        return {
            "lq": torch.from_numpy(degrade_planes(gt, factor, self.options.quantize)),
            "gt": torch.from_numpy(gt),
            **self.dial(factor),
            "conditions": torch.tensor([factor / self.options.max_factor, 0, 0, 0], dtype=torch.float32),
        }

    def dial(self, factor: float) -> dict[str, Tensor]:
        return dial_at(factor, self.options.max_factor)

    def _draw_factor(self, rng: np.random.Generator) -> float:
        options = self.options
        if options.factor_range is not None:
            return draw_factor(rng, options.out_size, *options.factor_range, log=options.factor_draw == "log")
        return options.choices[rng.integers(len(options.choices))]
