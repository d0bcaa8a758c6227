"""The two degradations: multi-factor (bicubic down and up) and blind (GFPGAN: blur, downsample, noise, JPEG, colour).

Images are (H, W, 3) BGR float32 in [0, 1]. Randomness comes from an explicit generator, so a draw can be repeated.
"""

from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from gcfsr_datasets.degradation import color
from gcfsr_datasets.degradation.blind_parameters import BlindDraw, BlindRanges, draw_blind
from gcfsr_datasets.degradation.blur import blur_and_shrink, gaussian_kernel
from gcfsr_datasets.resize import resize, resize_planes, resize_tensor

Quantize = bool | Literal["enlarged"]

JITTER = {
    "brightness": color.adjust_brightness,
    "contrast": color.adjust_contrast,
    "saturation": color.adjust_saturation,
    "hue": color.adjust_hue,
}


def small_size(size: int, factor: float) -> int:
    """Side of the small image: size / factor in whole pixels, at least 1."""
    return max(1, int(size / factor + 0.5))


def draw_factor(rng: np.random.Generator, size: int, lowest: float, largest: float, log: bool = False) -> float:
    """A factor drawn uniformly from a range, or in its logarithm, moved to the nearest exact ratio size / n."""
    smallest, widest = int(np.ceil(size / largest - 1e-9)), int(size / lowest + 1e-9)
    drawn = lowest * (largest / lowest) ** rng.uniform() if log else rng.uniform(lowest, largest)
    return size / min(max(small_size(size, drawn), smallest), max(widest, smallest))


def degrade_multi_factor(gt: np.ndarray, factor: float, quantize: Quantize = False) -> np.ndarray:
    """Bicubic down by `factor` and up to the old size, both equal to `imresize` (the paper's input of Eq. 1).

    Args:
        gt: (H, W) or (H, W, C) floats; [0, 1] if `quantize`.
        factor: downscale ratio, at least 1; the small image has round(size / factor) pixels a side.
        quantize: True clips and rounds the small image to 8 bits, as a file would hold it; "enlarged" the enlarged
            one instead, as the released code does; False neither.

    Returns:
        An image like gt; bicubic overshoots are kept unless they are quantized.
    """
    height, width = gt.shape[:2]
    small = resize(gt, (small_size(height, factor), small_size(width, factor)))
    large = resize(to_8bit(small, 0.0) if quantize is True else small, (height, width))
    return to_8bit(large, 0.0) if quantize == "enlarged" else large


def degrade_planes(gt: np.ndarray, factor: float, quantize: Quantize = False) -> np.ndarray:
    """`degrade_multi_factor` for planes (C, H, W) in [-1, 1], the networks' layout and range."""
    height, width = gt.shape[1:]
    small = resize_planes(gt, (small_size(height, factor), small_size(width, factor)))
    large = resize_planes(to_8bit(small, -1.0) if quantize is True else small, (height, width))
    return to_8bit(large, -1.0) if quantize == "enlarged" else large


def degrade_batch(gt: Tensor, factors: Tensor, quantize: Quantize = False) -> Tensor:
    """`degrade_planes` for a batch (N, 3, H, W) in [-1, 1] with factors (N,), on the batch's device: data sets need
    then send only the ground truth to a GPU. Differentiable without `quantize`."""
    lq = torch.empty_like(gt)
    for factor in factors.unique().tolist():
        chosen = factors == factor
        small = resize_tensor(gt[chosen], (small_size(gt.shape[2], factor), small_size(gt.shape[3], factor)))
        lq[chosen] = resize_tensor(_to_8bit(small) if quantize is True else small, (gt.shape[2], gt.shape[3]))
    return _to_8bit(lq) if quantize == "enlarged" else lq


def _to_8bit(image: Tensor) -> Tensor:
    return image.clamp(-1, 1).add(1).mul(127.5).round().div(127.5).sub(1)


def to_8bit(image: np.ndarray, black: float) -> np.ndarray:
    """Clips to [black, 1] and rounds to 256 levels, still as floats."""
    step = (1 - black) / 255
    return np.rint((np.clip(image, black, 1) - black) / step).astype(image.dtype) * image.dtype.type(step) + black


def degrade_blind(gt: np.ndarray, rng: np.random.Generator, ranges: BlindRanges) -> np.ndarray:
    """Draws and applies one blind degradation; the result has gt's size and is rounded to 8 bits (values k / 255)."""
    return apply_blind(gt, draw_blind(rng, ranges), rng, ranges.blur_kernel_size)


def apply_blind(gt: np.ndarray, draw: BlindDraw, rng: np.random.Generator, kernel_size: int = 41) -> np.ndarray:
    """Applies a given degradation; `rng` fills the noise's pixels."""
    height, width = gt.shape[:2]
    point = np.ones((1, 1), np.float32)
    kernel = point if draw.sigma is None else gaussian_kernel(kernel_size, draw.sigma, draw.angle)
    image = blur_and_shrink(gt, kernel, (max(1, int(height / draw.downsample)), max(1, int(width / draw.downsample))))
    if draw.noise is not None:
        image += rng.standard_normal(image.shape, np.float32) * np.float32(draw.noise)
    if draw.quality is not None:
        image = compress(image, draw.quality)
    return enlarge_and_tint(image, (height, width), draw)


def enlarge_and_tint(image: np.ndarray, size: tuple[int, int], draw: BlindDraw) -> np.ndarray:
    """The end of the blind degradation: back to size (height, width), the colours of the draw, rounded to 8 bits."""
    image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    if draw.shift is not None:
        image = color.shift_color(image, draw.shift)
    if draw.gray:
        image = color.to_gray(image)
    for name, value in draw.jitter:
        image = JITTER[name](image, value)
    return to_8bit(image, 0.0)


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """Encodes and decodes as JPEG at a quality of 1 to 100."""
    encoded = cv2.imencode(".jpg", to_uint8(image), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.float32) / 255


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Clips and rounds [0, 1] to 0..255."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def resized(image: np.ndarray, side: int) -> np.ndarray:
    """A square image of 8 or 16 bits at another size, bicubic, as (side, side, C) uint8; itself where it is that."""
    if image.shape[:2] == (side, side) and image.dtype == np.uint8:
        return image
    return to_uint8(resize(np.divide(image, np.iinfo(image.dtype).max, dtype=np.float32), (side, side)))
