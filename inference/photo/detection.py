"""What a detector finds: a face's box, five landmarks and a score."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Detection:
    """One face in a picture.

    Attributes:
        box: (4,) float left, top, right, bottom in pixels of the picture.
        landmarks: (5, 2) float x, y of the eye at the picture's left, the one at its right, the nose, and the mouth's
            corners at its left and right.
        score: confidence in [0, 1].
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float

    @property
    def size(self) -> float:
        """The longer side of the box in pixels."""
        return float(max(self.box[2] - self.box[0], self.box[3] - self.box[1]))


class Detector(Protocol):
    """What the search over scales needs of a detector."""

    confidence: float
    searches_scales: bool

    def detect(self, image: np.ndarray) -> list[Detection]:
        """Finds the faces of one BGR uint8 picture at the size it is given."""
        ...


def detections(boxes: np.ndarray, points: np.ndarray, scores: np.ndarray) -> list[Detection]:
    """Detections from (N, 4) boxes, (N, 10) landmarks and (N,) scores."""
    points = points.reshape(-1, 5, 2)
    return [Detection(box, five, float(score)) for box, five, score in zip(boxes, points, scores, strict=True)]
