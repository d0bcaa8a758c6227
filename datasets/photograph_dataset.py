"""Pairs of a face and its image in a photograph, at a factor drawn per sample, clean and worn together."""

import copy

import numpy as np
import torch
from torch import Tensor

from gcfsr_datasets.dataset_options import PhotographOptions
from gcfsr_datasets.degradation import degrade_planes
from gcfsr_datasets.degradation.conditions import conditions_of
from gcfsr_datasets.degradation.photograph import apply_photograph, contributions
from gcfsr_datasets.face_dataset import FaceDataset, dial_at, to_planes


class PhotographDegradationDataset(FaceDataset):
    """Samples: lq, gt, base (3, S, S) RGB in [-1, 1]; s and factor, scalars; conditions; lq_path, gt_path.

    `conditions` (4,) are those of `conditions_of`; with `contributions` samples have these too, (3, 3, S, S) RGB on the
    scale of lq: what blur, noise and JPEG each did to it. `valid` comes with `valid_corners`.
    `base` is the clean bicubic reduction of gt by the same factor. The detail of the dial is what gt has beyond it: a
    worn lq differs from gt by its noise as well, which no setting of the dial should bring back.
    """

    schema = PhotographOptions
    options: PhotographOptions

    def sample(self, image: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        options = self.options
        factor, draw = options.draw(rng, options.out_size)
        face = image if image.dtype == np.float32 else image.astype(np.float32) / 255
        before = copy.deepcopy(rng)
        lq = apply_photograph(face, factor, draw, rng)
        gt, extra = to_planes(image), {}
        if options.contributions:
            parts = contributions(lq, face, factor, draw, before)
            rgb = np.ascontiguousarray(parts[..., ::-1].transpose(0, 3, 1, 2)) * 2  # of images in [-1, 1]
            extra["contributions"] = torch.from_numpy(rgb)
        return {
            "lq": torch.from_numpy(to_planes(lq)),
            "gt": torch.from_numpy(gt),
            "base": torch.from_numpy(degrade_planes(gt, factor)),
            **self.dial(factor),
            "conditions": conditions_of(factor, options.max_factor, draw.wear, options),
            **extra,
        }

    def dial(self, factor: float) -> dict[str, Tensor]:
        return dial_at(factor, self.options.max_factor)

    def pair(self, gt: np.ndarray, lq: np.ndarray, factor: float) -> dict[str, Tensor]:
        return {**super().pair(gt, lq, factor), "base": torch.from_numpy(degrade_planes(gt, factor))}
