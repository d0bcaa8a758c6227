"""Misplaces the face in its image, as inexact alignment does."""

from dataclasses import dataclass

import cv2
import numpy as np

from gcfsr_datasets.degradation.color import Pair, check_ranges


@dataclass(frozen=True)
class PlacementRanges:
    """Ranges of the misplacement; each is drawn uniformly, scale in its logarithm. None: not changed.

    Attributes:
        scale: size of the face relative to the aligned one; below 1 the surroundings are mirrored into the image.
        shift: share of the image's side, drawn for either axis.
        rotate: degrees, counter-clockwise.
        prob: probability that a sample is misplaced at all.
    """

    scale: Pair | None = None
    shift: Pair | None = None
    rotate: Pair | None = None
    prob: float = 1.0

    def __post_init__(self) -> None:
        check_ranges(self, "misplace", {"scale": 0.1, "shift": -1.0, "rotate": -180.0})


def misplace(image: np.ndarray, rng: np.random.Generator, ranges: PlacementRanges) -> np.ndarray:
    """Draws and applies rotation, scale and shift to a square image (S, S, 3) uint8; returns such an image."""
    if rng.random() >= ranges.prob:
        return image
    side = image.shape[0]
    scale = np.exp(rng.uniform(*np.log(ranges.scale or (1.0, 1.0))))
    angle = rng.uniform(*ranges.rotate or (0.0, 0.0))
    shift = rng.uniform(*ranges.shift or (0.0, 0.0), size=2)
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2,) * 2, angle, scale)
    matrix[:, 2] += side * shift
    return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
