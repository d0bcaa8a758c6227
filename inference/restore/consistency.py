"""Agreement of a result with its input, measured after downscaling it by its factor; and back-projection towards it."""

import math
from dataclasses import asdict, dataclass

import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.resize import resize
from gcfsr_inference.restore.arrays import check_face, to_depth, unit_bgr
from gcfsr_inference.restore.dial import as_number
from gcfsr_measure.pixels import psnr, sharpness

EQUAL = 100.0  # PSNR in dB of equal images
TARGET = 0.5  # mean difference in 8-bit steps that `lock` goes below
MOST_STEPS = 200


@dataclass(frozen=True)
class Consistency:
    """How far a shrunk result is from what was given.

    Attributes:
        size: side in pixels at which they are compared.
        psnr: in dB over all channels; 100 where they are equal.
        mean: mean absolute difference in 8-bit steps (0 to 255).
        largest: largest absolute difference in 8-bit steps.
    """

    size: int
    psnr: float
    mean: float
    largest: float


@dataclass(frozen=True)
class LockCost:
    """What locking did to a result.

    Attributes:
        steps: back-projections made.
        psnr_change: PSNR in dB between the result before and after: how much was changed at all.
        sharpness_before, sharpness_after: see `gcfsr_measure.pixels.sharpness`.
        before, after: the consistency.
    """

    steps: int
    psnr_change: float
    sharpness_before: float
    sharpness_after: float
    before: Consistency
    after: Consistency

    def as_dict(self) -> dict:
        """Plain numbers, for JSON."""
        return asdict(self)


def low_size(restored: np.ndarray, given: np.ndarray, factor: float) -> int:
    """Side at which result and input are compared: the result's / factor, or the input's own side if that is about it.

    Raises:
        GCFSRError: an image that is not an aligned face, or a factor below 1.
    """
    check_face(restored, "restored")
    check_face(given, "given")
    if not 1 <= (factor := as_number("factor", factor)) < math.inf:
        raise GCFSRError(f"factor {factor:g}: at least 1")
    out_size = len(restored)
    side = max(1, round(out_size / factor))
    stored = round((given.shape[0] + given.shape[1]) / 2)
    return stored if stored <= out_size and 0.8 <= stored / side <= 1.25 else side


def consistency(restored: np.ndarray, given: np.ndarray, factor: float) -> Consistency:
    """Compares a result, shrunk by its factor, with the image it came from.

    Args:
        restored: (S, S, 3) BGR or (S, S) of uint8 or uint16.
        given: the input image, any size; it is shrunk to the same size if it is larger.
        factor: how many times fewer pixels than `restored` the input really has (`Restorer.estimate_factor`).

    Raises:
        GCFSRError: as of `low_size`, as `agreed` and `lock` do.
    """
    size = low_size(restored, given, factor)
    return _compare(_shrink(unit_bgr(restored), size), _shrink(unit_bgr(given), size))


def agreed(restored: np.ndarray, given: np.ndarray, factor: float, share: float) -> np.ndarray:
    """One back-projection (Irani and Peleg, 1991): adds a share of what the shrunk result lacks, enlarged.

    Measured on real faces (benchmarks/README.md), half of it is closer to the person on clean and worn inputs alike:
    it returns detail that the network lost, and little of the noise and compression that it removed.

    Args:
        restored, given, factor: as in `consistency`.
        share: from 0 (unchanged) to 1.
    """
    size = low_size(restored, given, factor)
    y, target = unit_bgr(restored), _shrink(unit_bgr(given), size)
    y = y + np.float32(share) * resize(target - _shrink(y, size), restored.shape[:2])
    return to_depth(y if restored.ndim == 3 else y[..., 0], restored.dtype)


def lock(restored: np.ndarray, given: np.ndarray, factor: float) -> tuple[np.ndarray, LockCost]:
    """Projects a result back so that it agrees with its input: iterative back-projection (Irani and Peleg, 1991).

    Each step adds the enlarged difference between the input and the shrunk result, until the image that is returned,
    rounded and clipped, differs by less than 0.5/255 on average.

    Args:
        restored: as in `consistency`.
        given: as in `consistency`.
        factor: as in `consistency`.

    Returns:
        The locked image (dtype and shape of `restored`) and what that cost. Where clipping keeps the target out of
        reach the best image found is returned: see `cost.after.mean`.
    """
    size, out = low_size(restored, given, factor), restored.shape[:2]
    target = _shrink(unit_bgr(given), size)
    before = _compare(_shrink(unit_bgr(restored), size), target)
    best, best_result, steps = before, restored, 0
    y = unit_bgr(restored)
    while best.mean >= TARGET and steps < MOST_STEPS:
        steps += 1
        y = np.clip(y + resize(target - _shrink(y, size), out), 0, 1)
        rounded = to_depth(y if restored.ndim == 3 else y[..., 0], restored.dtype)
        found = _compare(_shrink(unit_bgr(rounded), size), target)
        if found.mean < best.mean:
            best, best_result = found, rounded
    change = min(EQUAL, psnr(unit_bgr(best_result), unit_bgr(restored), peak=1))
    return best_result, LockCost(steps, change, _sharpness(restored), _sharpness(best_result), before, best)


def _sharpness(image: np.ndarray) -> float:
    return sharpness(unit_bgr(image) * 255)


def _shrink(unit: np.ndarray, size: int) -> np.ndarray:
    """To (size, size), clipped as the images in training are."""
    return unit if unit.shape[:2] == (size, size) else np.clip(resize(unit, (size, size)), 0, 1)


def _compare(low: np.ndarray, target: np.ndarray) -> Consistency:
    difference = np.abs(low - target)
    return Consistency(
        len(low), round(min(EQUAL, psnr(low, target, peak=1)), 4), round(float(difference.mean() * 255), 4),
        round(float(difference.max() * 255), 4),
    )  # fmt: skip
