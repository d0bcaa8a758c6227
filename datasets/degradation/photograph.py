"""How a photograph makes a small face: rotated, at any phase, reduced by some program, worn, and aligned again.

Photographs do not hold exact bicubic reductions of aligned faces. The face is turned, it lies between pixels, a camera
or a program reduced it, noise and JPEG were added, it may have been enlarged, and the alignment warps it back.
Images are (S, S, 3) BGR float32 in [0, 1]. Colours are not changed.
"""

import copy
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.degradation import compress, small_size, to_8bit, to_uint8
from gcfsr_datasets.degradation.blur import gaussian_kernel
from gcfsr_datasets.degradation.color import Pair, check_ranges
from gcfsr_datasets.resize import resize

RESAMPLING = {
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
BLUR_SIZE = 13  # side of the blur kernel in pixels of the reduced image


@dataclass(frozen=True)
class PhotographRanges:
    """Ranges of the photograph degradation.

    Attributes:
        exact_prob: probability of the paper's exact bicubic reduction of the aligned face instead of a photograph.
        rotate: degrees by which the face is turned in the photograph, uniform.
        enlarge_prob: probability that the photograph was enlarged before the alignment.
        enlarge_range: by how much, uniform; never beyond the size of the ground truth.
        worn_prob: probability that blur, noise and JPEG are applied to the reduced image.
        blur_prob: probability of the blur of a worn image.
        blur_sigma: its standard deviations in pixels of the reduced image, uniform, one along each axis.
        noise_prob: probability of the noise of a worn image.
        noise_range: its standard deviation on the scale of 255, uniform.
        gray_noise_prob: probability that the noise is the same in all channels, as film grain is.
        jpeg_prob: probability of JPEG compression of a worn image.
        jpeg_range: its quality, uniform over whole numbers.
    """

    exact_prob: float = 0.3
    rotate: Pair = (-12, 12)
    enlarge_prob: float = 0.4
    enlarge_range: Pair = (1.2, 4)
    worn_prob: float = 0.5
    blur_prob: float = 0.5
    blur_sigma: Pair = (0.2, 1.5)
    noise_prob: float = 1.0
    noise_range: Pair = (0, 12)
    gray_noise_prob: float = 0.4
    jpeg_prob: float = 0.8
    jpeg_range: Pair = (50, 95)

    def __post_init__(self) -> None:
        lowest = {"rotate": -180.0, "enlarge_range": 1.0, "blur_sigma": 1e-3, "noise_range": 0.0, "jpeg_range": 1.0}
        check_ranges(self, "photograph", lowest)
        for key in (
            "exact_prob",
            "enlarge_prob",
            "worn_prob",
            "blur_prob",
            "noise_prob",
            "gray_noise_prob",
            "jpeg_prob",
        ):
            if not 0 <= getattr(self, key) <= 1:
                raise GCFSRError(f"photograph: {key}: {getattr(self, key)} must be between 0 and 1")
        if self.jpeg_range[1] > 100:
            raise GCFSRError(f"photograph: jpeg_range: {list(self.jpeg_range)} must end at 100 or below")


@dataclass(frozen=True)
class Wear:
    """Blur, noise and JPEG of one photograph; None leaves a step out.

    Attributes:
        sigma: standard deviations of the blur along its two axes, in pixels of the reduced image.
        angle: of the second axis in radians.
        noise: standard deviation in [0, 1].
        gray_noise: whether all channels get the same noise.
        quality: of JPEG, 1 to 100.
    """

    sigma: Pair | None = None
    angle: float = 0.0
    noise: float | None = None
    gray_noise: bool = False
    quality: int | None = None


@dataclass(frozen=True)
class Photograph:
    """One photograph degradation, complete except for the pixels of its noise.

    Attributes:
        angle: rotation of the face in degrees; None is the paper's exact bicubic reduction of the aligned face.
        phase: (x, y) shift in pixels of the reduced image, in [0, 1).
        reduced_by, enlarged_by: keys of `RESAMPLING`.
        enlarge: ratio of the enlargement before the alignment, 1 is none.
        wear: what happened to the reduced image.
    """

    angle: float | None = None
    phase: Pair = (0.0, 0.0)
    reduced_by: str = "bicubic"
    enlarged_by: str = "bicubic"
    enlarge: float = 1.0
    wear: Wear = Wear()


def wear_of(blur: float, noise: float, jpeg: float, ranges: PhotographRanges) -> Wear:
    """The wear whose `degradation.conditions.conditions_of` are these, each in [0, 1]; 0 leaves a step out."""
    sigma, deviation = blur * ranges.blur_sigma[1], noise * ranges.noise_range[1] / 255
    quality = round(100 - jpeg * (100 - ranges.jpeg_range[0]))
    return Wear((sigma, sigma) if blur else None, noise=deviation or None, quality=quality if jpeg else None)


def draw_photograph(rng: np.random.Generator, ranges: PhotographRanges) -> Photograph:
    """Draws all parameters in a fixed order."""
    exact, enlarged, worn = rng.random(3) < (ranges.exact_prob, ranges.enlarge_prob, ranges.worn_prob)
    wear = draw_wear(rng, ranges) if worn else Wear()
    if exact:
        return Photograph(wear=wear)
    angle, phase = rng.uniform(*ranges.rotate), (rng.random(), rng.random())
    reduced_by, enlarged_by = rng.choice(list(RESAMPLING), 2)
    enlarge = rng.uniform(*ranges.enlarge_range) if enlarged else 1.0
    return Photograph(angle, phase, str(reduced_by), str(enlarged_by), enlarge, wear)


def draw_wear(rng: np.random.Generator, ranges: PhotographRanges) -> Wear:
    """Draws blur, noise and JPEG in a fixed order."""
    blurred, gray, compressed = rng.random(3) < (ranges.blur_prob, ranges.gray_noise_prob, ranges.jpeg_prob)
    sigma = (rng.uniform(*ranges.blur_sigma), rng.uniform(*ranges.blur_sigma)) if blurred else None
    angle, noise = rng.uniform(-np.pi, np.pi), rng.uniform(*ranges.noise_range) / 255
    quality = int(np.rint(rng.uniform(*ranges.jpeg_range))) if compressed else None
    noisy = ranges.noise_prob == 1 or rng.random() < ranges.noise_prob  # certain noise does not change the other draws
    return Wear(sigma, angle, noise if noisy else None, bool(gray), quality)


def degrade_photograph(gt: np.ndarray, factor: float, rng: np.random.Generator, ranges: PhotographRanges) -> np.ndarray:
    """Draws and applies one photograph degradation; see `apply_photograph`."""
    return apply_photograph(gt, factor, draw_photograph(rng, ranges), rng)


def contributions(
    lq: np.ndarray, gt: np.ndarray, factor: float, draw: Photograph, rng: np.random.Generator
) -> np.ndarray:
    """What blur, noise and JPEG each did to an image: the image minus the same one without that step.

    Args:
        lq: of `apply_photograph` with the other arguments.
        rng: in the state that `apply_photograph` found it in, so that the noise has the same pixels; not modified.

    Returns:
        (3, S, S, 3) BGR float32, zero for a step that is absent.
    """
    parts = np.zeros((3, *lq.shape), np.float32)
    for k, step in enumerate(("sigma", "noise", "quality")):
        if getattr(draw.wear, step) is not None:
            other = replace(draw, wear=replace(draw.wear, **{step: None}))
            parts[k] = lq - apply_photograph(gt, factor, other, copy.deepcopy(rng))
    return parts


def apply_photograph(gt: np.ndarray, factor: float, draw: Photograph, rng: np.random.Generator) -> np.ndarray:
    """Reduces a face by `factor` as a photograph does and aligns it again.

    Args:
        gt: (S, S, 3) BGR float32 in [0, 1].
        factor: reduction, from 1 to S.
        draw: the parameters.
        rng: fills the pixels of the noise.

    Returns:
        (S, S, 3) BGR float32. An aligned crop of a photograph is rounded to 8 bits (values k / 255); the exact bicubic
        reduction is rounded while it is small and then enlarged, as `degrade_multi_factor` does with `quantize`.
    """
    side = gt.shape[0]
    if draw.angle is None:
        n = small_size(side, factor)
        return resize(wear_out(resize(gt, (n, n)), draw.wear, rng), (side, side))
    canvas, n, to_canvas = place(gt, factor, draw.angle, draw.phase)
    small = wear_out(resample(canvas, n, draw.reduced_by), draw.wear, rng)
    final = max(n, round(n * min(draw.enlarge, factor)))
    photograph = to_8bit(resample(small, final, draw.enlarged_by), 0.0) if final > n else small
    ratio = final / canvas.shape[0]
    to_photograph = np.array([[ratio, 0, (ratio - 1) / 2], [0, ratio, (ratio - 1) / 2]]) @ to_canvas
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    aligned = cv2.warpAffine(photograph, to_photograph, (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return to_8bit(aligned, 0.0)


def place(gt: np.ndarray, factor: float, angle: float, phase: Pair) -> tuple[np.ndarray, int, np.ndarray]:
    """Lays a face into a larger canvas, turned by `angle` degrees and shifted by `phase` pixels of the reduced image.

    Returns:
        canvas: (L, L, 3) float32 in [0, 1], L near n * factor.
        n: side of the reduced canvas in pixels.
        to_canvas: (3, 3) matrix from pixel coordinates of `gt` to those of the canvas.
    """
    side, turn = gt.shape[0], np.deg2rad(angle)
    n = int(np.ceil(side * (abs(np.cos(turn)) + abs(np.sin(turn))) / factor)) + 1
    size = round(n * factor)
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2,) * 2, angle, 1.0)
    matrix[:, 2] += (size - side) / 2 + np.subtract(phase, 0.5) * factor
    canvas = cv2.warpAffine(gt, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.clip(canvas, 0, 1), n, np.vstack([matrix, [0, 0, 1]])


def resample(image: np.ndarray, side: int, method: str) -> np.ndarray:
    """Resizes a square image with Pillow, antialiased, to (side, side, 3) float32 with values k / 255."""
    resized = Image.fromarray(to_uint8(image)).resize((side, side), RESAMPLING[method])
    return np.asarray(resized, np.float32) / 255


def wear_out(small: np.ndarray, wear: Wear, rng: np.random.Generator) -> np.ndarray:
    """Blur, noise, rounding to 8 bits and JPEG of a small image (n, n, 3) float32; values k / 255."""
    if wear.sigma is not None:
        small = cv2.filter2D(small, -1, gaussian_kernel(BLUR_SIZE, wear.sigma, wear.angle))
    if wear.noise is not None:
        noise = rng.standard_normal((*small.shape[:2], 1 if wear.gray_noise else 3), np.float32)
        small = small + noise * np.float32(wear.noise)
    if wear.quality is not None:
        return compress(small, wear.quality)
    return to_8bit(np.clip(small, 0, 1), 0.0)
