"""Between pictures at the edge (BGR, uint8 or uint16) and the network's tensors (RGB, [-1, 1])."""

import cv2
import numpy as np
import torch
from torch import Tensor

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.resize import resize

SMALLEST = 4  # pixels a side; below this a picture carries no face
SQUARENESS = 1.25  # longest side over shortest, up to which a picture may be taken as one aligned face


def check_face(image: np.ndarray, name: str = "picture") -> None:
    """Raises `GCFSRError` unless the array can be one aligned face: 8 or 16 bit, roughly square, not tiny."""
    if not isinstance(image, np.ndarray) or image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3):
        raise GCFSRError(f"{name}: pass a (H, W[, 3 or 4]) array of uint8 or uint16, BGR")
    if image.ndim == 3 and image.shape[2] not in (3, 4):
        raise GCFSRError(f"{name}: {image.shape[2]} channels; pass gray, BGR or BGRA")
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST:
        raise GCFSRError(f"{name}: {width}x{height} pixels carry no face; at least {SMALLEST}x{SMALLEST} are needed")
    if max(height, width) > SQUARENESS * min(height, width):
        raise GCFSRError(f"{name}: {width}x{height} is not the square picture of an aligned face; crop the face first")


def unit_bgr(image: np.ndarray) -> np.ndarray:
    """(H, W), (H, W, 3) or (H, W, 4) of uint8 or uint16 -> (H, W, 3) float64 BGR in [0, 1]; alpha is left out."""
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    return image[..., :3] / np.iinfo(image.dtype).max


def to_depth(unit: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """Float in [0, 1] (clipped) -> uint8 or uint16, rounded."""
    top = np.iinfo(dtype).max
    return (np.clip(unit, 0, 1) * top).round().astype(dtype)


def network_view(image: np.ndarray, out_size: int) -> np.ndarray:
    """A picture at (out_size, out_size), bicubic, as the network sees it; dtype and channels kept, alpha left out."""
    unit = unit_bgr(image)
    return to_depth(unit if unit.shape[:2] == (out_size, out_size) else resize(unit, (out_size, out_size)), image.dtype)


def network_input(image: np.ndarray, out_size: int) -> Tensor:
    """A picture as the network saw its inputs in training: bicubic to the output size, overshoots kept.

    Args:
        image: as `check_face` allows.
        out_size: side in pixels.

    Returns:
        (1, 3, out_size, out_size) float32 RGB in [-1, 1] but for overshoot.
    """
    unit = unit_bgr(image)
    if unit.shape[:2] != (out_size, out_size):
        unit = resize(unit, (out_size, out_size))
    rgb = np.ascontiguousarray(unit[..., ::-1].transpose(2, 0, 1), dtype=np.float32)
    return torch.from_numpy(rgb)[None] * 2 - 1


def picture(output: Tensor, like: np.ndarray) -> np.ndarray:
    """One output of the network as a picture of the input's kind.

    Args:
        output: (3, S, S) float RGB, [-1, 1] but for overshoot, which is clipped.
        like: the input picture: its depth is kept, gray stays gray, and its alpha is resized and kept.

    Returns:
        (S, S), (S, S, 3) BGR or (S, S, 4) BGRA.
    """
    unit = output.clamp(-1, 1).cpu().numpy()[::-1].transpose(1, 2, 0) / 2 + 0.5
    face = to_depth(unit.astype(np.float64), like.dtype)
    return with_alpha_of(cv2.cvtColor(face, cv2.COLOR_BGR2GRAY) if like.ndim == 2 else face, like)


def with_alpha_of(face: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Adds the alpha of `like`, resized to the face; a picture without alpha changes nothing."""
    if like.ndim != 3 or like.shape[2] != 4:
        return face
    return np.dstack([face, alpha_at(like[..., 3], len(face))])


def alpha_at(alpha: np.ndarray, out_size: int) -> np.ndarray:
    """An alpha channel (H, W) resized to (out_size, out_size), same dtype."""
    return to_depth(resize(alpha / np.iinfo(alpha.dtype).max, (out_size, out_size)), alpha.dtype)
