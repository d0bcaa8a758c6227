"""Colour changes of images (H, W, 3), BGR float32 in [0, 1]; each returns such an image, clipped."""

from dataclasses import dataclass

import cv2
import numpy as np

from gcfsr_arch.errors import GCFSRError

Pair = tuple[float, float]
LUMA_BGR = np.array([0.114, 0.587, 0.299], np.float32)  # ITU-R BT.601


def check_ranges(ranges: object, block: str, lowest: dict[str, float]) -> None:
    """Raises GCFSRError for an attribute in `lowest` that is neither None nor (smallest, largest) from there up."""
    for key, least in lowest.items():
        pair = getattr(ranges, key)
        if pair is not None and not (len(pair) == 2 and least <= pair[0] <= pair[1]):
            raise GCFSRError(f"{block}: {key}: {list(pair)} is not a range from {least:g} up; give [smallest, largest]")


@dataclass(frozen=True)
class ToneRanges:
    """Ranges of the tone and colour augmentation; each is drawn uniformly, gamma in its logarithm. None: not changed.

    Attributes:
        gamma: exponent of the pixels in [0, 1]; above 1 darkens.
        brightness: factor.
        contrast: factor of the distance to the mean luminance.
        saturation: factor of the distance to gray.
        temperature: the red gain is 1 + t and the blue gain 1 - t; positive is warmer.
        prob: probability that a sample is augmented at all.
    """

    gamma: Pair | None = None
    brightness: Pair | None = None
    contrast: Pair | None = None
    saturation: Pair | None = None
    temperature: Pair | None = None
    prob: float = 1.0

    def __post_init__(self) -> None:
        lowest = {"gamma": 1e-3, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "temperature": -1.0}
        check_ranges(self, "augment", lowest)


def augment_tone(image: np.ndarray, rng: np.random.Generator, ranges: ToneRanges) -> np.ndarray:
    """Draws and applies the augmentation: gamma, temperature, brightness, contrast, saturation, in this order."""
    if rng.random() >= ranges.prob:
        return image
    if ranges.gamma is not None:
        image = np.power(image, np.float32(np.exp(rng.uniform(*np.log(ranges.gamma)))))
    if ranges.temperature is not None:
        warmth = rng.uniform(*ranges.temperature)
        image = cv2.transform(image, np.diag([1 - warmth, 1, 1 + warmth]))
    for change, pair in (
        (adjust_brightness, ranges.brightness),
        (adjust_contrast, ranges.contrast),
        (adjust_saturation, ranges.saturation),
    ):
        if pair is not None:
            image = change(image, rng.uniform(*pair))
    return np.clip(image, 0, 1)


def to_gray(image: np.ndarray) -> np.ndarray:
    """Luminance in all three channels."""
    return np.repeat(luminance(image)[..., None], 3, axis=2)


def luminance(image: np.ndarray) -> np.ndarray:
    """(H, W) BT.601 luminance."""
    return image @ LUMA_BGR


def shift_color(image: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Adds (3,) to the channels."""
    return np.clip(cv2.transform(image, np.column_stack([np.eye(3), shift])), 0, 1)


def adjust_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Multiplies; 0 is black, 1 unchanged."""
    return np.clip(image * np.float32(factor), 0, 1)


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Scales the distance to the mean luminance; 0 is even gray, 1 unchanged."""
    return _blend(image, np.float32(luminance(image).mean()), factor)


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Scales the distance to the pixel's luminance; 0 is gray, 1 unchanged."""
    return _blend(image, luminance(image)[..., None], factor)


def adjust_hue(image: np.ndarray, turn: float) -> np.ndarray:
    """Turns the hue by a share of the circle, in [-0.5, 0.5]."""
    hsv = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2HSV)  # hue in degrees
    hsv[..., 0] = (hsv[..., 0] + np.float32(360 * turn)) % 360
    return np.clip(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR), 0, 1)


def _blend(image: np.ndarray, other: np.ndarray | np.float32, factor: float) -> np.ndarray:
    return np.clip(np.float32(factor) * image + np.float32(1 - factor) * other, 0, 1)
