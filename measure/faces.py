"""Crops of FFHQ-aligned faces for networks that were trained on another layout."""

import cv2
import numpy as np
from numpy.typing import NDArray

# ArcFace's template of 112x112 covers this square of an FFHQ-aligned face (left, top, side, as fractions of its side):
# the least squares fit of the five points of both layouts
ARCFACE_BOX = (0.117, 0.113, 0.758)


def arcface_crop(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The ArcFace crop of an FFHQ-aligned face: BGR (S, S, 3) -> BGR (112, 112, 3)."""
    side = image.shape[0]
    left, top, width = (round(part * side) for part in ARCFACE_BOX)
    crop = image[top : top + width, left : left + width]
    resized = cv2.resize(crop, (112, 112), interpolation=cv2.INTER_AREA if width > 112 else cv2.INTER_CUBIC)
    return resized.astype(np.uint8, copy=False)
