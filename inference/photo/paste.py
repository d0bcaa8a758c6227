"""Alignment of a face by five landmarks, and its way back into the image; works on the face's own region only."""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.resize import resize
from gcfsr_inference.photo.tone import grain_level, grain_of, lost_grain

# The five landmarks in an FFHQ-aligned face, as shares of its side (facexlib's 512 pixel template).
TEMPLATE = np.array(
    [[0.376917, 0.468647], [0.622857, 0.469128], [0.501239, 0.613309], [0.393088, 0.725411], [0.611502, 0.724905]]
)
WORST_FIT = 0.1  # root mean square distance from the template, as a share of the face's side, that still is a face
FEATHER = 0.12  # width of the mask's soft edge as a share of the face's side
BAND = 256  # rows pasted at a time
GRAIN_FADE = 0.3  # share of the face's side over which its grain fades out
PARTING = 4  # how abruptly overlapping faces part: about 8% of the side at equal sizes
LEAST_SPAN = 2.0  # pixels between landmarks below which nothing can be aligned


def align(landmarks: np.ndarray, out_size: int) -> np.ndarray:
    """The similarity that takes a face's landmarks to the FFHQ template with the least squared distance (Umeyama).

    Args:
        landmarks: (5, 2) x, y in the image's pixels.
        out_size: side of the aligned face in pixels.

    Returns:
        (2, 3) matrix from the image's pixels to the aligned face's.

    Raises:
        GCFSRError: the landmarks are not finite, coincide, are mirrored, or do not look like a face's.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    target = TEMPLATE * out_size
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise GCFSRError("landmarks: not five finite points")
    centred, target_centred = points - points.mean(axis=0), target - target.mean(axis=0)
    spread = np.square(centred).sum()
    if np.sqrt(spread) < LEAST_SPAN:
        raise GCFSRError("landmarks: they coincide")
    # In complex numbers a similarity without mirroring is one factor: z -> a z + b.
    source, goal = centred @ [1, 1j], target_centred @ [1, 1j]
    factor = np.vdot(source, goal) / spread
    error = np.sqrt(np.square(np.abs(factor * source - goal)).mean())
    if abs(factor) == 0 or error > WORST_FIT * out_size:
        raise GCFSRError(f"landmarks: not those of a face ({error / out_size:.0%} of its side off the template)")
    turn = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.concatenate([turn, (target.mean(axis=0) - turn @ points.mean(axis=0))[:, None]], axis=1)


def scale_of(matrix: np.ndarray) -> float:
    """Pixels of the aligned face per pixel of the image."""
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def crop_face(image: np.ndarray, matrix: np.ndarray, out_size: int) -> np.ndarray:
    """Cuts the aligned face out of an image; a face larger than `out_size` is shrunk without aliasing.

    Args:
        image: (H, W, 3) uint8 or uint16, or (H, W) float32.
        matrix: (2, 3) from `align`.
        out_size: side of the aligned face.

    Returns:
        (out_size, out_size[, 3]) of the same dtype. Places outside the image mirror it.

    Raises:
        GCFSRError: the face lies outside the image.
    """
    back = invert(matrix)
    left, top, right, bottom = _region(back, out_size, image.shape[:2], margin=3 * max(1.0, scale_of(back)))
    if right - left < 2 or bottom - top < 2:
        raise GCFSRError("landmarks: the face lies outside the image")
    patch = image[top:bottom, left:right]
    local = _after_shift(matrix, left, top)
    if scale_of(matrix) < 1:
        patch, ratio = _shrink(patch, scale_of(matrix))
        local = scale_matrix(local, ratio)
    return cv2.warpAffine(patch, local, (out_size, out_size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def paste_face(
    image: np.ndarray,
    restored: np.ndarray,
    crop: np.ndarray,
    matrix: np.ndarray,
    keep_detail: bool = True,
    others: Sequence[np.ndarray] = (),
    before: np.ndarray | None = None,
    grain: float = 0.0,
    blend: float = 1.0,
) -> tuple[int, int, int, int]:
    """Puts a restored face back into the image, in place, under a soft mask.

    Where the face has more pixels in the image than in `restored`, what the network did is added as a difference, so
    that detail above its resolution stays (`keep_detail`); elsewhere the restored face replaces what was there. Where
    faces overlap each gets its share of a pixel (`share_of`), so that no pixel is corrected twice. Where the face lost
    grain and its surrounding has some, the grain fades out towards the face's middle instead of at the mask's edge.

    Args:
        image: (H, W, 3) uint8 or uint16, changed in the face's region only.
        restored, crop: (S, S, 3) aligned faces after and before, of the image's dtype.
        matrix: (2, 3) from the image's pixels to the aligned face's.
        keep_detail: see above.
        others: the alignments of the image's other faces, which are or will be pasted as well.
        before: the image before any face was pasted; it may be left out where no faces overlap.
        grain: how much of the grain that the face lost stays in its middle, 0 to 1.
        blend: of the change, 0 (nothing is changed) to 1.

    Returns:
        Left, top, right, bottom of the region that was written.
    """
    side, limit = restored.shape[0], np.iinfo(image.dtype).max
    before = image if before is None else before
    back = invert(matrix)
    left, top, right, bottom = _region(back, side, image.shape[:2])
    add = keep_detail and scale_of(back) > 1
    lost = 0.0 if add else lost_grain(crop, restored)
    around = before[top:bottom, left:right]
    noise = lost * grain_of(around, grain_level(around)) if lost else None
    layer = restored.astype(np.float32) - (crop.astype(np.float32) if add else 0)
    layer = np.concatenate([layer, soft_mask(side)[..., None]], axis=2)  # (S, S, 4), warped as one
    if scale_of(back) < 1:
        layer, ratio = _shrink(layer, scale_of(back))
        back = scale_matrix(back, ratio)
    for row in range(top, bottom, BAND):  # bands: a face as large as the image needs no copy of it in floats
        window = image[row : min(row + BAND, bottom), left:right]
        shift = np.concatenate([back[:, :2], (back[:, 2] - [left, row])[:, None]], axis=1)
        warped = cv2.warpAffine(
            layer, shift, window.shape[1::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT
        )
        mask = np.clip(warped[..., 3:], 0, 1)
        if others:
            mask *= share_of(matrix, others, side, (left, row), window.shape[:2])[..., None]
        change = warped[..., :3] if add else warped[..., :3] - before[row : row + len(window), left:right]
        if noise is not None:
            inside = np.clip(_depth(matrix, side, (left, row), window.shape[:2]) / GRAIN_FADE, 0, 1)[..., None]
            change += (1 - (1 - grain) * inside) * noise[row - top : row - top + len(window)]
        window[:] = np.clip(np.rint(window + np.float32(blend) * mask * change), 0, limit).astype(image.dtype)
    return left, top, right, bottom


def share_of(
    matrix: np.ndarray, others: Sequence[np.ndarray], side: int, corner: tuple[int, int], shape: tuple[int, int]
) -> np.ndarray:
    """One face's share of each pixel of a window of the image: the shares of all faces sum to at most 1.

    A pixel belongs to the face in which it lies nearer to the middle, softly: p_i / sum of p_j, where p falls from 1 in
    the middle of an aligned face to 0 at its edge, to the power `PARTING`.

    Args:
        matrix: (2, 3) from the image's pixels to the aligned face's.
        others: those of the other faces.
        side: of the aligned faces.
        corner: left, top of the window in the image.
        shape: height, width of the window.

    Returns:
        (height, width) float32 in [0, 1].
    """
    own = _middleness(matrix, side, corner, shape)
    total = own + sum(_middleness(other, side, corner, shape) for other in others)
    return own / np.maximum(total, np.float32(1e-12))


def neighbours(matrices: Sequence[np.ndarray], side: int) -> list[list[np.ndarray]]:
    """For each alignment those of the faces that may share pixels with it: the circles around both squares meet."""
    backs = [invert(matrix) for matrix in matrices]
    middles = np.array([back[:, :2] @ np.full(2, (side - 1) / 2) + back[:, 2] for back in backs]).reshape(-1, 2)
    radii = np.array([scale_of(back) * side / np.sqrt(2) for back in backs])
    return [
        [matrices[k] for k in np.flatnonzero(np.hypot(*(middles - middle).T) < radii + radius).tolist() if k != own]
        for own, (middle, radius) in enumerate(zip(middles, radii, strict=True))
    ]


def _middleness(matrix: np.ndarray, side: int, corner: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """(height, width) float32: 1 in the middle of an aligned face, 0 at its edge and outside; see `share_of`."""
    across, down = _ramps(matrix, side, corner, shape)
    return (across * down) ** PARTING


def _depth(matrix: np.ndarray, side: int, corner: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """(height, width) float32: distance to an aligned face's edge as a share of its side, 0 outside."""
    return np.minimum(*_ramps(matrix, side, corner, shape)) / 2


def _ramps(matrix: np.ndarray, side: int, corner: tuple[int, int], shape: tuple[int, int]) -> list[np.ndarray]:
    """1 in the middle of an aligned face, falling to 0 at its left and right; the same towards its top and bottom."""
    x = np.arange(shape[1], dtype=np.float32) + corner[0]
    y = np.arange(shape[0], dtype=np.float32)[:, None] + corner[1]
    places = [(row[0] * x + row[1] * y + row[2] + 0.5) / side for row in matrix.astype(np.float32)]
    return [np.clip(1 - np.abs(2 * place - 1), 0, 1) for place in places]


@lru_cache(maxsize=4)
def soft_mask(side: int) -> np.ndarray:
    """(side, side) float32: 1 inside, falling smoothly to 0 at the edges and corners over `FEATHER` of the side."""
    x = (np.arange(side) + 0.5) / side
    ramp = np.clip(np.minimum(x, 1 - x) / FEATHER, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return np.outer(ramp, ramp).astype(np.float32)


def scale_matrix(matrix: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """The alignment of an image that was resized by `ratio` (x, y): x_old = (x_new + 0.5) / ratio - 0.5."""
    turn = matrix[:, :2] / ratio
    return np.concatenate([turn, (matrix[:, 2] + matrix[:, :2] @ (0.5 / ratio - 0.5))[:, None]], axis=1)


def _after_shift(matrix: np.ndarray, left: int, top: int) -> np.ndarray:
    """The alignment of an image cut at `left`, `top`."""
    return np.concatenate([matrix[:, :2], (matrix[:, 2] + matrix[:, :2] @ [left, top])[:, None]], axis=1)


def invert(matrix: np.ndarray) -> np.ndarray:
    """The inverse of a (2, 3) affine map."""
    turn = np.linalg.inv(matrix[:, :2])
    return np.concatenate([turn, -(turn @ matrix[:, 2])[:, None]], axis=1)


def _region(back: np.ndarray, side: int, shape: tuple[int, int], margin: float = 0.0) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the part of an image that an aligned face covers, with a margin, clipped to it."""
    edge = np.array([[-0.5, -0.5], [side - 0.5, -0.5], [-0.5, side - 0.5], [side - 0.5, side - 0.5]])
    corners = edge @ back[:, :2].T + back[:, 2]
    margin += scale_of(back)
    limit = np.array([shape[1], shape[0]])
    low = np.clip(np.floor(corners.min(axis=0) - margin), 0, limit).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0) + margin) + 1, 0, limit).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _shrink(image: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Resizes with antialiasing by about `scale` < 1. Returns the image (of the same dtype) and the ratios (x, y).

    A strong reduction starts with whole-number area averages, which need no copy in floats.
    """
    height, width = image.shape[:2]
    target = max(1, round(height * scale)), max(1, round(width * scale))
    whole = int(1 / (2 * scale))
    if whole > 1:
        size = max(target[1], round(width / whole)), max(target[0], round(height / whole))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    small = resize(image.astype(np.float32), target)
    if image.dtype == np.uint8 or image.dtype == np.uint16:
        small = np.clip(np.rint(small), 0, 255 if image.dtype == np.uint8 else 65535)
    return small.astype(image.dtype), np.array([target[1] / width, target[0] / height])
