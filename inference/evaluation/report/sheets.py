"""Per-image sheets (Fig. 4): input, methods, ground truth in a row, zoomed crops below."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]  # (H, W, 3) BGR uint8

# top, left and side of the crops as fractions of the image: an eye and the mouth in the FFHQ layout
CROPS = ((0.38, 0.27, 0.24), (0.62, 0.38, 0.24))
COLOURS = ((0, 200, 255), (80, 220, 80))  # BGR of their frames
MARGIN, BAR = 4, 22


def enlarge(image: Image, side: int) -> Image:
    """Resizes an image to (side, side): nearest neighbour to enlarge, averages to reduce."""
    how = cv2.INTER_NEAREST if image.shape[0] < side else cv2.INTER_AREA
    return cv2.resize(image, (side, side), interpolation=how)


def with_label(image: Image, text: str) -> Image:
    """An image below a bar with its name, in letters small enough to fit."""
    bar = np.full((BAR, image.shape[1], 3), 255, np.uint8)
    ascii_text = text.encode("ascii", "replace").decode()  # OpenCV draws ASCII only
    scale = 0.45
    while scale > 0.25 and cv2.getTextSize(ascii_text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0] > bar.shape[1] - 4:
        scale -= 0.05
    cv2.putText(bar, ascii_text, (3, BAR - 7), cv2.FONT_HERSHEY_SIMPLEX, scale, (20, 20, 20), 1, cv2.LINE_AA)
    return np.vstack([bar, image])


def crops_of(image: Image, side: int) -> Image:
    """The zoomed crops side by side under an image of width `side`."""
    image = image if image.shape[0] >= side else enlarge(image, side)  # a small image has too few pixels to crop
    height = image.shape[0]
    parts = []
    for (top, left, size), colour in zip(CROPS, COLOURS, strict=True):
        y, x, n = (round(part * height) for part in (top, left, size))
        crop = enlarge(image[y : y + n, x : x + n], side // len(CROPS) - 2)
        parts.append(cv2.copyMakeBorder(crop, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=colour))
    row = np.hstack(parts)
    return cv2.copyMakeBorder(row, 2, 0, 0, side - row.shape[1], cv2.BORDER_CONSTANT, value=(255, 255, 255))


def framed(image: Image, side: int) -> Image:
    """The image at the sheet's size with frames around the crops."""
    shown = enlarge(image, side).copy()
    for (top, left, size), colour in zip(CROPS, COLOURS, strict=True):
        y, x, n = (round(part * side) for part in (top, left, size))
        cv2.rectangle(shown, (x, y), (x + n, y + n), colour, 1)
    return shown


def sheet(columns: Sequence[tuple[str, Image]], side: int = 256, zoom: bool = True) -> Image:
    """One row of labelled square images, crops below.

    Args:
        columns: (name, BGR image of any size) from left to right.
        side: pixels of each image in the sheet.
        zoom: whether the crops are shown.

    Returns:
        (H, W, 3) BGR uint8.
    """
    blocks = []
    for name, image in columns:
        block = with_label(framed(image, side) if zoom else enlarge(image, side), name)
        block = np.vstack([block, crops_of(image, side)]) if zoom else block
        blocks.append(cv2.copyMakeBorder(block, 0, 0, 0, MARGIN, cv2.BORDER_CONSTANT, value=(255, 255, 255)))
    return np.hstack(blocks)


def stack(rows: Sequence[Image]) -> Image:
    """Stacks sheets vertically; narrower ones are padded with white on the right."""
    width = max(row.shape[1] for row in rows)
    return np.vstack(
        [cv2.copyMakeBorder(row, 0, MARGIN, 0, width - row.shape[1], cv2.BORDER_CONSTANT, value=(255, 255, 255))
         for row in rows]
    )  # fmt: skip


def choose(report: dict[str, Any], count: int) -> list[str]:
    """Chooses images for the sheets evenly over the names, so that real and generated ones both occur."""
    names = list(report["images"])
    if count >= len(names):
        return names
    return [names[round(i * (len(names) - 1) / max(count - 1, 1))] for i in range(count)]
