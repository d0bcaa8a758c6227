"""Between images at the edge (BGR, uint8 or uint16) and the network's tensors (RGB, [-1, 1]).

The network's input has one definition, `network_input`, which training data, validation, `evaluate`, `restore`, figures
and the page share: the stored LR image (8 or 16 bits), enlarged to the output size by bicubic interpolation (MATLAB's),
neither clipped nor rounded. Networks of the released form were trained on an *enlarged* image of 8 bits: for them it is
clipped and rounded (`rounded=True`).
"""

import cv2
import numpy as np
import torch
from torch import Tensor

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.resize import resize

SMALLEST = 2  # pixels a side: what factor 64 leaves of 128 pixels
SQUARENESS = 1.25  # longest side over shortest, up to which an image may be taken as one aligned face


def check_face(image: np.ndarray, name: str = "image") -> None:
    """Raises `GCFSRError` unless the array can be one aligned face: 8 or 16 bit, roughly square, not tiny."""
    if not isinstance(image, np.ndarray) or image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3):
        raise GCFSRError(f"{name}: pass a (H, W[, 3 or 4]) array of uint8 or uint16, BGR")
    if image.ndim == 3 and image.shape[2] not in (3, 4):
        raise GCFSRError(f"{name}: {image.shape[2]} channels; pass gray, BGR or BGRA")
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST:
        raise GCFSRError(f"{name}: {width}x{height} pixels show no face; at least {SMALLEST}x{SMALLEST} are needed")
    if max(height, width) > SQUARENESS * min(height, width):
        raise GCFSRError(f"{name}: {width}x{height} is not the square image of an aligned face; crop the face first")


def check_photo(image: np.ndarray, name: str = "image") -> None:
    """Raises `GCFSRError` unless the array can be a photograph: 8 or 16 bit, three channels, not empty."""
    kind = isinstance(image, np.ndarray) and image.dtype in (np.uint8, np.uint16)
    if not kind or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise GCFSRError(f"{name}: photographs are (H, W, 3) arrays of uint8 or uint16, not empty")


def unit_bgr(image: np.ndarray) -> np.ndarray:
    """(H, W), (H, W, 3) or (H, W, 4) of uint8 or uint16 -> (H, W, 3) float32 BGR in [0, 1]; alpha is left out."""
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    return np.divide(image[..., :3], np.iinfo(image.dtype).max, dtype=np.float32)


def to_depth(unit: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """Float in [0, 1] (clipped) -> uint8 or uint16, rounded."""
    scaled = np.clip(unit, 0, 1)
    scaled *= np.iinfo(dtype).max
    return np.rint(scaled, out=scaled).astype(dtype)


def enlarged(image: np.ndarray, out_size: int) -> np.ndarray:
    """An image, as `check_face` allows, bicubic: (out_size, out_size, 3) float32 BGR in [0, 1] except for overshoot."""
    unit = unit_bgr(image)
    return unit if unit.shape[:2] == (out_size, out_size) else resize(unit, (out_size, out_size))


def network_view(image: np.ndarray, out_size: int) -> np.ndarray:
    """The network's input as an image to look at: (out_size, out_size, 3) BGR of the image's dtype."""
    return to_depth(enlarged(image, out_size), image.dtype)


def network_input(image: np.ndarray, out_size: int, rounded: bool = False) -> Tensor:
    """The network's input (x of Eq. 1), see the top of this file.

    Args:
        image: the stored LR image, as `check_face` allows.
        out_size: side in pixels.
        rounded: clip and round the enlarged image to 8 bits, as for the released form.

    Returns:
        (1, 3, out_size, out_size) float32 RGB in [-1, 1] except for overshoot.
    """
    unit = enlarged(image, out_size)
    if rounded:
        unit = unit_bgr(to_depth(unit, np.uint8))
    rgb = np.ascontiguousarray(unit[..., ::-1].transpose(2, 0, 1), dtype=np.float32)
    return torch.from_numpy(rgb)[None] * 2 - 1


def network_output(output: Tensor, like: np.ndarray | None = None) -> np.ndarray:
    """One output of the network as an image of the input's kind.

    Args:
        output: (3, S, S) float RGB, [-1, 1] except for overshoot, which is clipped.
        like: the input image: its depth is kept, gray (one channel, or three equal ones) stays gray, and its alpha is
            resized and kept. None makes BGR uint8.

    Returns:
        (S, S), (S, S, 3) BGR or (S, S, 4) BGRA.

    Raises:
        GCFSRError: the network returned NaN or infinity.
    """
    if not output.isfinite().all():
        raise GCFSRError("the network returned NaN or infinity: its checkpoint is damaged, or --dtype fp32 is needed")
    unit = output.clamp(-1, 1).cpu().numpy()[::-1].transpose(1, 2, 0) / 2 + 0.5
    face = to_depth(unit, np.uint8 if like is None else like.dtype)
    if like is None:
        return face
    if like.ndim == 2:
        return cv2.cvtColor(face, cv2.COLOR_BGR2GRAY)
    if (like[..., :1] == like[..., 1:3]).all():
        face = np.repeat(cv2.cvtColor(face, cv2.COLOR_BGR2GRAY)[..., None], 3, axis=2)
    return face if like.shape[2] == 3 else np.dstack([face, alpha_at(like[..., 3], len(face))])


def blended(result: np.ndarray, given: np.ndarray, blend: float) -> np.ndarray:
    """Between an input and its result: given + blend (result - given), rounded.

    Args:
        result: (S, S), (S, S, 3) BGR or (S, S, 4) BGRA of uint8 or uint16; its alpha is kept.
        given: the input image of any size, as `check_face` allows.
        blend: in [0, 1]: 0 is the input, enlarged as the network sees it, 1 the result.
    """
    if blend == 1:
        return result
    view = network_view(given, len(result))
    mixed = result.copy()
    colours, view = (mixed, view[..., 0]) if mixed.ndim == 2 else (mixed[..., :3], view)
    colours[...] = np.rint(view + np.float32(blend) * (colours.astype(np.float32) - view))
    return mixed


def alpha_at(alpha: np.ndarray, out_size: int) -> np.ndarray:
    """An alpha channel (H, W) resized to (out_size, out_size), same dtype."""
    unit = np.divide(alpha, np.iinfo(alpha.dtype).max, dtype=np.float32)
    return to_depth(resize(unit, (out_size, out_size)), alpha.dtype)
