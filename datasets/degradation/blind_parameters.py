"""The random parameters of the blind degradation: their ranges (GFPGAN's names) and one draw from them."""

from dataclasses import dataclass

import numpy as np

from gcfsr_arch.errors import GCFSRError

Pair = tuple[float, float]
PRESENT = ("blur_prob", "noise_prob", "jpeg_prob")
JITTERS = ("brightness", "contrast", "saturation", "hue")


@dataclass(frozen=True)
class BlindRanges:
    """Ranges of the blind degradation; the defaults are GFPGAN's published training ranges at 512 pixels.

    Attributes:
        blur_kernel_size: side of the Gaussian kernel in pixels, odd.
        kernel_list, kernel_prob: "iso" and "aniso" Gaussian blur and their probabilities.
        blur_sigma: standard deviation in pixels, uniform; "aniso" draws two and an angle.
        downsample_range: ratio, uniform; below 1 enlarges.
        noise_range: standard deviation of Gaussian noise on the scale of 255, uniform; None: no noise.
        jpeg_range: JPEG quality, uniform over whole numbers; None: no JPEG.
        blur_prob, noise_prob, jpeg_prob: probabilities of the three, each of them certain unless given.
        color_jitter_prob, color_jitter_shift: probability of a shift per channel, and its size on the scale of 255.
        color_jitter_pt_prob: probability of brightness, contrast, saturation and hue jitter, in a random order.
        gray_prob: probability of a gray input. None for a probability is 0.
        brightness, contrast, saturation: factors, uniform.
        hue: turn as a share of the circle, uniform.
    """

    blur_kernel_size: int = 41
    kernel_list: tuple[str, ...] = ("iso", "aniso")
    kernel_prob: tuple[float, ...] = (0.5, 0.5)
    blur_sigma: Pair = (0.1, 10)
    downsample_range: Pair = (0.8, 8)
    noise_range: Pair | None = (0, 20)
    jpeg_range: Pair | None = (60, 100)
    blur_prob: float = 1.0
    noise_prob: float = 1.0
    jpeg_prob: float = 1.0
    color_jitter_prob: float | None = 0.3
    color_jitter_shift: float = 20
    color_jitter_pt_prob: float | None = 0.3
    gray_prob: float | None = 0.01
    brightness: Pair = (0.5, 1.5)
    contrast: Pair = (0.5, 1.5)
    saturation: Pair = (0, 1.5)
    hue: Pair = (-0.1, 0.1)

    def __post_init__(self) -> None:
        lowest = {"blur_sigma": 1e-3, "downsample_range": 1e-3, "jpeg_range": 1, "hue": -0.5}
        for key in ("blur_sigma", "downsample_range", "noise_range", "jpeg_range", *JITTERS):
            pair = getattr(self, key)
            valid = pair is None or (len(pair) == 2 and lowest.get(key, 0) <= pair[0] <= pair[1])
            self._check(valid, key, f"[smallest, largest], from {lowest.get(key, 0):g}")
        for key in ("color_jitter_prob", "color_jitter_pt_prob", "gray_prob", *PRESENT):
            self._check(0 <= (getattr(self, key) or 0) <= 1, key, "between 0 and 1")
        self._check(self.blur_kernel_size % 2 == 1, "blur_kernel_size", "odd")
        kinds = set(self.kernel_list) <= {"iso", "aniso"} and len(self.kernel_list) == len(self.kernel_prob) > 0
        self._check(kinds and min(self.kernel_prob) >= 0, "kernel_list", "iso or aniso, with a probability each")
        self._check(sum(self.kernel_prob) > 0, "kernel_prob", "above 0 in all")
        self._check(self.jpeg_range is None or self.jpeg_range[1] <= 100, "jpeg_range", "at most 100")

    def _check(self, holds: bool, key: str, wanted: str) -> None:
        if not holds:
            raise GCFSRError(f"blind degradation: {key}: {getattr(self, key)} must be {wanted}")


@dataclass(frozen=True)
class BlindDraw:
    """One blind degradation, complete except for the noise's pixels; None skips a step.

    Attributes:
        sigma: (across, along) standard deviations of the blur in pixels.
        angle: of the second axis in radians.
        downsample: ratio.
        noise: standard deviation in [0, 1].
        quality: of JPEG, 1 to 100.
        shift: (3,) added to B, G, R.
        jitter: (name, value) of `JITTERS` in the order in which they are applied.
        gray: whether the input loses its colours.
    """

    sigma: Pair | None
    angle: float
    downsample: float
    noise: float | None = None
    quality: int | None = None
    shift: np.ndarray | None = None
    jitter: tuple[tuple[str, float], ...] = ()
    gray: bool = False


def draw_blind(rng: np.random.Generator, ranges: BlindRanges) -> BlindDraw:
    """Draws all parameters in a fixed order."""
    share = np.array(ranges.kernel_prob) / sum(ranges.kernel_prob)
    kind = ranges.kernel_list[rng.choice(len(share), p=share)]
    first = rng.uniform(*ranges.blur_sigma)
    second = rng.uniform(*ranges.blur_sigma) if kind == "aniso" else first
    angle = rng.uniform(-np.pi, np.pi) if kind == "aniso" else 0.0
    downsample = rng.uniform(*ranges.downsample_range)
    noise = None if ranges.noise_range is None else rng.uniform(*ranges.noise_range) / 255
    quality = None if ranges.jpeg_range is None else int(np.rint(rng.uniform(*ranges.jpeg_range)))
    chances = (ranges.color_jitter_prob, ranges.color_jitter_pt_prob, ranges.gray_prob)
    shifted, jittered, gray = rng.random(3) < [chance or 0 for chance in chances]
    largest = ranges.color_jitter_shift / 255
    shift = rng.uniform(-largest, largest, 3).astype(np.float32) if shifted else None
    order = rng.permutation(len(JITTERS)) if jittered else ()
    jitter = tuple((JITTERS[index], rng.uniform(*getattr(ranges, JITTERS[index]))) for index in order)
    probs = [getattr(ranges, key) for key in PRESENT]
    blurred, noisy, compressed = (True,) * 3 if min(probs) == 1 else rng.random(3) < probs  # as before where all are
    sigma = (first, second) if blurred else None
    noise, quality = noise if noisy else None, quality if compressed else None
    return BlindDraw(sigma, angle, downsample, noise, quality, shift, jitter, bool(gray))
