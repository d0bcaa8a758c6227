"""What a detector finds: a face's box, five landmarks and a score."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Detection:
    """One face in an image.

    Attributes:
        box: (4,) float left, top, right, bottom in pixels of the image.
        landmarks: (5, 2) float x, y of the eye at the left of the upright face, the one at its right, the nose, and the
            mouth's corners at its left and right.
        score: confidence in [0, 1].
        confirmed: whether it looks like a face, eyes above mouth, once it is aligned (see `turned.find`).
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float
    confirmed: bool = True

    @property
    def size(self) -> float:
        """The longer side of the box in pixels."""
        return float(max(self.box[2] - self.box[0], self.box[3] - self.box[1]))


class Detector(Protocol):
    """What the search over scales needs of a detector."""

    confidence: float
    searches_scales: bool

    def detect(self, image: np.ndarray) -> list[Detection]:
        """Finds the faces of one BGR uint8 image at the size it is given."""
        ...


def detections(boxes: np.ndarray, points: np.ndarray, scores: np.ndarray) -> list[Detection]:
    """Detections from (N, 4) boxes, (N, 10) landmarks and (N,) scores."""
    points = points.reshape(-1, 5, 2)
    return [Detection(box, five, float(score)) for box, five, score in zip(boxes, points, scores, strict=True)]


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    common = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0).prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common
    return float(common / union) if union > 0 else 0.0
