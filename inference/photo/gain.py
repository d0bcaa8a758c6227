"""Does a face gain by being restored? The rules by which a photograph's face is left, and how much of it is kept."""

import cv2
import numpy as np

from gcfsr_datasets.resize import resize
from gcfsr_inference.restore.arrays import unit_bgr

AGREEMENT = 27.0  # least PSNR in dB between result and input, both reduced; faces restored as they should be reach 30
SHARPER = 1.0  # least ratio of the strongest edges, result over input
NOISY = 0.5  # of the noise dial as it is read: nearly all clean faces are below, nearly all of sigma 10 and more above
NOISY_SHARPER = 0.8  # that ratio for a noisy face: its grain counts as edges, and a good result has none
EDGE_SHARE = 0.2  # of the pixels of the face's inner part whose edges count: its features, not its grain
CLEAN = 1.75  # 8-bit steps: a result that differs less from its input, both reduced, removed hardly any noise
CLEAN_FACTOR = 2.0  # a clean face below this factor is left, and below the next it keeps all that its input shows
KEEP_FACTOR = 4.5
SHARE = 0.5  # of what its input shows, for every other face
INNER = np.s_[1 / 4 : 7 / 8, 1 / 4 : 3 / 4]  # rows, columns of an aligned face from the brows to the chin


def reason_to_leave(
    crop: np.ndarray,
    input_factor: float,
    least_factor: float,
    restored: np.ndarray | None = None,
    difference: float = np.inf,
    noise: float = 0.0,
) -> str | None:
    """Why a face is better left unchanged, or None where it gains.

    A network worsens a face that is sharper than the least factor it serves, and does not bring a large clean one any
    closer to the person (measured, benchmarks/README.md). A result is only used if its features are sharper than the
    input's (of a noisy face: nearly as sharp), and if it agrees with the input once both are reduced to half the pixels
    that the input really has, where grain and JPEG count little.

    Args:
        crop: (S, S, 3) the aligned face, uint8 or uint16 BGR.
        input_factor: how many times fewer pixels than `crop` it really has (`Restorer.estimate_factor`).
        least_factor: the least factor that the network serves.
        restored: (S, S, 3) the result, in the input's colours; None asks before restoring, from the factors alone.
        difference: mean difference in 8-bit steps of the network's own result from the input, both reduced by the
            input's factor (`consistency`).
        noise: where the dial of noise was set, in [0, 1]; 0 for a network without one.
    """
    if input_factor < least_factor:
        return "already sharper than this network's output"
    if restored is None:
        return None
    if input_factor < CLEAN_FACTOR and difference < CLEAN:
        return "clean, and almost as sharp as this network's output"
    side = max(4, round(len(crop) / input_factor / 2))
    small = [resize(unit_bgr(image), (side, side)) for image in (restored, crop)]
    error = float(np.square(small[0] - small[1]).mean())
    if error > 10 ** (-AGREEMENT / 10):
        return f"the result does not agree with it ({-10 * np.log10(error):.0f} dB at {side} pixels)"
    if edge_strength(restored) < (NOISY_SHARPER if noise > NOISY else SHARPER) * edge_strength(crop):
        return "the result is not sharper"
    return None


def share_to_keep(input_factor: float, difference: float) -> float:
    """How far a result goes back to what its input shows (`agreed`), by default.

    All the way for a large clean face, whose own pixels are closer to the person than the network's; half of the way
    for the others, whose noise and compression would return. Arguments as in `reason_to_leave`.
    """
    return 1.0 if input_factor < KEEP_FACTOR and difference < CLEAN else SHARE


def edge_strength(image: np.ndarray) -> float:
    """Mean gradient, in 8-bit steps a pixel, of the strongest edges of an aligned face (S, S, 3) of uint8 or uint16."""
    rows, columns = (slice(int(part.start * len(image)), int(part.stop * len(image))) for part in INNER)
    luma = cv2.cvtColor(unit_bgr(image), cv2.COLOR_BGR2GRAY) * np.float32(255)
    smooth = cv2.GaussianBlur(luma, (0, 0), 1.0)
    gradient = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(smooth, cv2.CV_32F, 0, 1) / 8)
    values = np.sort(gradient[rows, columns], axis=None)
    return float(values[-max(1, int(EDGE_SHARE * values.size)) :].mean())
