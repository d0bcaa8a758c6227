"""The second-order degradation of Real-ESRGAN (Wang et al., 2021): blur, resizing, noise and JPEG, twice, and ringing.

Images are (H, W, 3) BGR float32 in [0, 1]. Randomness comes from an explicit generator, so a draw can be repeated.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.special import j1

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.degradation import compress
from gcfsr_datasets.degradation.blur import quadratic_form
from gcfsr_datasets.degradation.color import Pair

Triple = tuple[float, float, float]
KINDS = ("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso")
SHARES = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
LOWEST = {"blur_sigma": 1e-3, "betag_range": 1e-2, "betap_range": 1e-2, "resize_range": 1e-2, "jpeg_range": 1}
MODES = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


@dataclass(frozen=True)
class SecondOrderRanges:
    """Ranges of the second-order degradation; names and defaults are Real-ESRGAN's (x4plus), `2` is the second pass.

    Attributes:
        prob: share of the samples that get this degradation; the others get the blind one.
        blur_kernel_size, blur_kernel_size2: largest side of a kernel in pixels, odd; sides are drawn from 7 on.
        kernel_list, kernel_list2: kinds of kernels: iso, aniso, generalized_iso, generalized_aniso, plateau_iso,
            plateau_aniso.
        kernel_prob, kernel_prob2: their probabilities.
        sinc_prob, sinc_prob2: probability of a sinc kernel instead, which rings.
        blur_sigma, blur_sigma2: standard deviation in pixels, uniform.
        betag_range, betag_range2: exponent of generalized kernels; half of the draws below 1.
        betap_range, betap_range2: exponent of plateau kernels; half of the draws below 1 where the range allows.
        second_blur_prob: probability of the second pass's blur.
        resize_prob, resize_prob2: probabilities of enlarging, reducing and neither.
        resize_range, resize_range2: [smallest, largest] ratio; of the second pass to the final size.
        gaussian_noise_prob, gaussian_noise_prob2: probability of Gaussian noise; otherwise it is Poisson noise.
        noise_range, noise_range2: standard deviation of Gaussian noise on the scale of 255, uniform.
        poisson_scale_range, poisson_scale_range2: scale of Poisson noise, uniform.
        gray_noise_prob, gray_noise_prob2: probability that the noise is the same in all channels.
        jpeg_range, jpeg_range2: JPEG quality, uniform over whole numbers.
        final_sinc_prob: probability of the last sinc kernel, before or after the second JPEG.
    """

    prob: float = 1.0
    blur_kernel_size: int = 21
    kernel_list: tuple[str, ...] = KINDS
    kernel_prob: tuple[float, ...] = SHARES
    sinc_prob: float = 0.1
    blur_sigma: Pair = (0.2, 3)
    betag_range: Pair = (0.5, 4)
    betap_range: Pair = (1, 2)
    resize_prob: Triple = (0.2, 0.7, 0.1)
    resize_range: Pair = (0.15, 1.5)
    gaussian_noise_prob: float = 0.5
    noise_range: Pair = (1, 30)
    poisson_scale_range: Pair = (0.05, 3)
    gray_noise_prob: float = 0.4
    jpeg_range: Pair = (30, 95)
    second_blur_prob: float = 0.8
    blur_kernel_size2: int = 21
    kernel_list2: tuple[str, ...] = KINDS
    kernel_prob2: tuple[float, ...] = SHARES
    sinc_prob2: float = 0.1
    blur_sigma2: Pair = (0.2, 1.5)
    betag_range2: Pair = (0.5, 4)
    betap_range2: Pair = (1, 2)
    resize_prob2: Triple = (0.3, 0.4, 0.3)
    resize_range2: Pair = (0.3, 1.2)
    gaussian_noise_prob2: float = 0.5
    noise_range2: Pair = (1, 25)
    poisson_scale_range2: Pair = (0.05, 2.5)
    gray_noise_prob2: float = 0.4
    jpeg_range2: Pair = (30, 95)
    final_sinc_prob: float = 0.8

    def __post_init__(self) -> None:
        for key in ("prob", "second_blur_prob", "final_sinc_prob"):
            self._check(0 <= getattr(self, key) <= 1, key, "between 0 and 1")
        for order in ("", "2"):
            for name in ("sinc_prob", "gaussian_noise_prob", "gray_noise_prob"):
                self._check(0 <= getattr(self, name + order) <= 1, name + order, "between 0 and 1")
            for name in (*LOWEST, "noise_range", "poisson_scale_range"):
                low, high = getattr(self, name + order)
                least = LOWEST.get(name, 0)
                self._check(least <= low <= high, name + order, f"[smallest, largest], from {least:g}")
            key = f"blur_kernel_size{order}"
            self._check(getattr(self, key) % 2 == 1 and getattr(self, key) >= 7, key, "odd and at least 7")
            self._check(getattr(self, f"jpeg_range{order}")[1] <= 100, f"jpeg_range{order}", "at most 100")
            low, high = getattr(self, f"resize_range{order}")
            self._check(low <= 1 <= high, f"resize_range{order}", "a range with 1 in it")
            kinds, shares = getattr(self, f"kernel_list{order}"), getattr(self, f"kernel_prob{order}")
            self._check(set(kinds) <= set(KINDS), f"kernel_list{order}", f"of {', '.join(KINDS)}")
            valid = len(kinds) == len(shares) and min(shares, default=-1) >= 0 and sum(shares) > 0
            self._check(valid, f"kernel_prob{order}", f"one probability for each of kernel_list{order}")
            shares = getattr(self, f"resize_prob{order}")
            self._check(min(shares) >= 0 and sum(shares) > 0, f"resize_prob{order}", "three probabilities")

    def _check(self, holds: bool, key: str, wanted: str) -> None:
        if not holds:
            raise GCFSRError(f"second_order: {key}: {getattr(self, key)} must be {wanted}")


class OnePass:
    """The ranges of one pass and the draws from them.

    Args:
        ranges: of both passes.
        order: "" for the first pass, "2" for the second.
        rng: what the draws come from.
    """

    def __init__(self, ranges: SecondOrderRanges, order: str, rng: np.random.Generator):
        self.ranges, self.order, self.rng = ranges, order, rng

    def range(self, name: str) -> tuple:
        """A range or a list of this pass."""
        return getattr(self.ranges, name + self.order)

    def happens(self, name: str) -> bool:
        """Whether something of a given probability happens."""
        return self.rng.random() < getattr(self.ranges, name + self.order)

    def kernel(self) -> np.ndarray:
        """A blur kernel."""
        size = int(self.rng.choice(np.arange(7, getattr(self.ranges, f"blur_kernel_size{self.order}") + 1, 2)))
        if self.happens("sinc_prob"):
            return draw_sinc(self.rng, size)
        shares = np.array(self.range("kernel_prob")) / sum(self.range("kernel_prob"))
        kind = self.range("kernel_list")[self.rng.choice(len(shares), p=shares)]
        across = self.rng.uniform(*self.range("blur_sigma"))
        along, angle = across, 0.0
        if kind.endswith("aniso"):
            along, angle = self.rng.uniform(*self.range("blur_sigma")), self.rng.uniform(-np.pi, np.pi)
        exponent = 1.0
        if kind not in ("iso", "aniso"):
            low, high = self.range("betag_range" if kind.startswith("generalized") else "betap_range")
            below = self.rng.random() < 0.5
            exponent = self.rng.uniform(min(low, 1), min(high, 1)) if below else self.rng.uniform(max(low, 1), high)
        return blur_kernel(size, (across, along), angle, exponent, plateau=kind.startswith("plateau"))

    def resized(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The image at a random ratio of `size`, (height, width)."""
        shares = np.array(self.range("resize_prob")) / sum(self.range("resize_prob"))
        low, high = self.range("resize_range")
        ratio = (self.rng.uniform(1, high), self.rng.uniform(low, 1), 1.0)[self.rng.choice(3, p=shares)]
        return draw_resize(image, (max(1, int(size[0] * ratio)), max(1, int(size[1] * ratio))), self.rng)

    def noisy(self, image: np.ndarray) -> np.ndarray:
        """The image with Gaussian or Poisson noise, clipped."""
        gray = self.happens("gray_noise_prob")
        if self.happens("gaussian_noise_prob"):
            shape = (*image.shape[:2], 1) if gray else image.shape
            noise = self.rng.standard_normal(shape, np.float32) * self.rng.uniform(*self.range("noise_range")) / 255
        else:
            noise = poisson_noise(image, self.rng, gray) * self.rng.uniform(*self.range("poisson_scale_range"))
        return np.clip(image + noise.astype(np.float32), 0, 1)

    def compressed(self, image: np.ndarray) -> np.ndarray:
        """The image after JPEG."""
        return compress(image, int(np.rint(self.rng.uniform(*self.range("jpeg_range")))))


def degrade_twice(
    image: np.ndarray, rng: np.random.Generator, ranges: SecondOrderRanges, size: tuple[int, int]
) -> np.ndarray:
    """Draws and applies one second-order degradation.

    Args:
        image: the ground truth.
        rng: gives every random number.
        ranges: of the degradation; `prob` plays no role here.
        size: (height, width) of the result.
    """
    first, second = OnePass(ranges, "", rng), OnePass(ranges, "2", rng)
    image = first.resized(blurred(image, first.kernel()), image.shape[:2])
    image = first.compressed(first.noisy(image))
    if rng.random() < ranges.second_blur_prob:
        image = blurred(image, second.kernel())
    image = second.noisy(second.resized(image, size))
    kernel = np.ones((1, 1))
    if rng.random() < ranges.final_sinc_prob:
        kernel = draw_sinc(rng, int(rng.choice(np.arange(7, 22, 2))), lowest=np.pi / 3)
    if rng.random() < 0.5:
        return second.compressed(blurred(draw_resize(image, size, rng), kernel))
    return np.clip(blurred(draw_resize(second.compressed(image), size, rng), kernel), 0, 1)


def blurred(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The image correlated with a kernel; borders mirror without the edge pixel."""
    return cv2.filter2D(image, -1, kernel)


def draw_resize(image: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """The image at (height, width), by area, bilinear or bicubic interpolation."""
    return cv2.resize(image, size[::-1], interpolation=MODES[rng.integers(len(MODES))])


def blur_kernel(size: int, sigma: Pair, angle: float, exponent: float, plateau: bool) -> np.ndarray:
    """(size, size) float64 that sums to 1: exp(-q^exponent / 2), or 1 / (1 + q^exponent), q of `quadratic_form`."""
    power = quadratic_form(size, sigma, angle) ** exponent
    kernel = 1 / (1 + power) if plateau else np.exp(-0.5 * power)
    return kernel / kernel.sum()


def sinc_kernel(size: int, cutoff: float) -> np.ndarray:
    """(size, size) float64 circular low-pass filter that sums to 1; cutoff in radians a pixel, at most pi."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    distance = np.hypot(x, y)
    distance[size // 2, size // 2] = 1
    kernel = cutoff * j1(cutoff * distance) / (2 * np.pi * distance)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * np.pi)
    return kernel / kernel.sum()


def draw_sinc(rng: np.random.Generator, size: int, lowest: float | None = None) -> np.ndarray:
    """A sinc kernel of a random cutoff; large ones may begin lower."""
    least = (np.pi / 3 if size < 13 else np.pi / 5) if lowest is None else lowest
    return sinc_kernel(size, rng.uniform(least, np.pi))


def poisson_noise(image: np.ndarray, rng: np.random.Generator, gray: bool) -> np.ndarray:
    """Poisson noise of an image whose brightest pixel counts as many photons as it has levels, a power of two."""
    levels = np.rint(np.clip(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None] if gray else image, 0, 1) * 255) / 255
    photons = 2 ** np.ceil(np.log2(max(2, len(np.unique(levels)))))
    return rng.poisson(levels * photons) / photons - levels
