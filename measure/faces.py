"""Crops of FFHQ-aligned faces for networks that were trained on another layout."""

import cv2
import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float]  # left, top and side of a square, as fractions of the image's side

# ArcFace's template of 112x112: the least squares fit of the five points of both layouts
ARCFACE_BOX: Box = (0.117, 0.113, 0.758)
# face-api's `alignDlib` for FFHQ's eyes and mouth: 1 / 0.45 times the distance from eyes to mouth
DLIB_BOX: Box = (0.178, 0.279, 0.639)
# where face-api's 68 landmarks come nearest to FFHQ's five points (129 faces of the London set, 4.3 of 256 pixels)
LANDMARK_BOX: Box = (0.175, 0.2, 0.65)


def face_crop(image: NDArray[np.uint8], box: Box, size: int) -> NDArray[np.uint8]:
    """A square of an FFHQ-aligned face, resized: BGR (S, S, 3) -> BGR (size, size, 3)."""
    left, top, width = (round(part * image.shape[0]) for part in box)
    crop = image[top : top + width, left : left + width]
    resized = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA if width > size else cv2.INTER_CUBIC)
    return resized.astype(np.uint8, copy=False)
