"""What a restored face takes over from its input: colours, the tone of a photograph, and grain."""

import cv2
import numpy as np

BLUR_SHARE = 1 / 16  # standard deviation of the low frequencies, as a share of an aligned face's side
TONED = 3.5 / 255  # scatter of the colours about a curve over luma, up to which a face has one tone; real ones exceed 5
CLIP = 2.5  # standard deviations of grain beyond which a residual is detail
QUIET = 1.5 / 255  # standard deviation below which there is no grain


def match_color(restored: np.ndarray, crop: np.ndarray) -> np.ndarray:
    """Gives a restored face the low frequencies of its input, and its tone if it has only one.

    Args:
        restored, crop: (S, S, 3) BGR of one dtype, uint8 or uint16.
    """
    top = np.iinfo(restored.dtype).max
    shift = crop.astype(np.float32) - restored.astype(np.float32)
    low = cv2.GaussianBlur(shift, (0, 0), BLUR_SHARE * len(restored), borderType=cv2.BORDER_REFLECT_101)
    matched = (restored + low) / top
    curve = tone_curve(crop)
    if curve is not None:
        luma = cv2.cvtColor(matched, cv2.COLOR_BGR2GRAY)
        matched = luma[..., None] + _powers(luma) @ curve
    return np.clip(np.rint(matched * top), 0, top).astype(restored.dtype)


def tone_curve(crop: np.ndarray) -> np.ndarray | None:
    """The tone of a monochrome, sepia or yellowed face: what each channel adds to luma, as a quadratic of luma.

    Returns:
        (3, 3) float32, rows 1, luma, luma^2 in [0, 1], columns B, G, R; None for a face in colour.
    """
    unit = crop.astype(np.float32) / np.iinfo(crop.dtype).max
    luma = cv2.cvtColor(unit, cv2.COLOR_BGR2GRAY)
    if (unit[..., :1] == unit[..., 1:]).all():
        return np.zeros((3, 3), np.float32)
    smooth = cv2.GaussianBlur(unit, (0, 0), len(crop) / 64)  # without grain
    luma = cv2.cvtColor(smooth, cv2.COLOR_BGR2GRAY)
    powers, chroma = _powers(luma).reshape(-1, 3), (smooth - luma[..., None]).reshape(-1, 3)
    curve = np.linalg.lstsq(powers, chroma, rcond=None)[0]
    scatter = np.sqrt(np.square(chroma - powers @ curve).mean(axis=0)).max()
    return curve.astype(np.float32) if scatter < TONED else None


def _powers(luma: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(luma), luma, luma * luma], axis=-1)


def grain_level(image: np.ndarray) -> float:
    """Standard deviation of the grain of (H, W, 3) uint8 or uint16, on the scale of [0, 1].

    Immerkaer's operator (1996), which suppresses structure, with a median instead of the mean.
    """
    luma = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32) / np.iinfo(image.dtype).max
    kernel = np.outer([1, -2, 1], [1, -2, 1]).astype(np.float32)
    return float(np.median(np.abs(cv2.filter2D(luma, -1, kernel)))) / (6 * 0.6745)


def lost_grain(crop: np.ndarray, restored: np.ndarray) -> float:
    """The share in [0, 1] of a face's grain that its restoration removed; 0 where there was none."""
    before, after = grain_level(crop), grain_level(restored)
    return 0.0 if before < QUIET or after >= before else float(np.sqrt(1 - (after / before) ** 2))


def grain_of(image: np.ndarray, level: float) -> np.ndarray:
    """What a slight blur takes away from an image (H, W, 3), as far as it is grain of that level: float32."""
    limit = CLIP * level * np.iinfo(image.dtype).max
    values = image.astype(np.float32)
    return np.clip(values - cv2.GaussianBlur(values, (0, 0), 1.0), -limit, limit)
