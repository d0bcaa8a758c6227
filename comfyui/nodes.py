"""The nodes: load a checkpoint, restore the faces of images, sweep the dial over one face.

ComfyUI's IMAGE is a tensor (B, H, W, 3) RGB float32 in [0, 1], its MASK (B, H, W) or (H, W) float32 in [0, 1].
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gcfsr import GCFSRError, Restorer
from gcfsr_inference.photo.photograph import restore_photo
from gcfsr_inference.restore.dial import MAX_SEED
from gcfsr_inference.restore.runner import FaceRunner, Settings
from gcfsr_inference.restore.weights import SUFFIXES, bundled, user_folders

CATEGORY = "image/GCFSR"
FACES = {"restorer": ("GCFSR",), "image": ("IMAGE",)}  # inputs of two nodes
SEED = {"seed": ("INT", {"default": 0, "min": 0, "max": MAX_SEED})}


def to_array(image: Tensor) -> np.ndarray:
    """(H, W, 3) RGB in [0, 1] -> (H, W, 3) BGR uint16, so that nothing is lost to 8 bits."""
    values = image[..., :3].clamp(0, 1).mul(65535).round().to(torch.int32).cpu().numpy().astype(np.uint16)
    return np.ascontiguousarray(values[..., ::-1])


def to_image(array: np.ndarray) -> Tensor:
    """(H, W, 3) BGR uint16 -> (H, W, 3) RGB float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(array[..., ::-1]).astype(np.float32) / 65535)


def checkpoints() -> list[str]:
    """Names of the bundled checkpoints, then of the files in the user's weights folders."""
    own = [path.name for folder in user_folders() for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES]
    return [*bundled(), *own]


class LoadGCFSR:
    """Loads a bundled checkpoint, or one from the user's weights folder."""

    CATEGORY = CATEGORY
    FUNCTION = "load"
    RETURN_TYPES = ("GCFSR",)
    RETURN_NAMES = ("restorer",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        devices = ["cuda", "cpu"] if torch.cuda.is_available() else ["cpu"]
        return {"required": {"checkpoint": (checkpoints(),), "device": (devices,)}}

    def load(self, checkpoint: str, device: str) -> tuple[Restorer]:
        """Returns the restorer."""
        return (Restorer.load(checkpoint, device=device),)


class RestoreFaces:
    """Finds, restores and pastes the faces of every image of a batch, or restores images that are aligned faces."""

    CATEGORY = CATEGORY
    FUNCTION = "restore"
    RETURN_TYPES = ("IMAGE", "INT")
    RETURN_NAMES = ("image", "faces")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                **FACES,
                "auto_factor": ("BOOLEAN", {"default": True, "tooltip": "Estimate the factor of each face."}),
                "factor": ("FLOAT", {"default": 8.0, "min": 1.0, "max": 64.0, "step": 0.1}),
                "aligned": ("BOOLEAN", {"default": False, "tooltip": "Each image is one aligned face."}),
                **SEED,
            },
            "optional": {"s_map": ("MASK", {"tooltip": "Strength s in [0, 1] at every pixel, instead of a factor."})},
        }

    def restore(
        self,
        restorer: Restorer,
        image: Tensor,
        auto_factor: bool,
        factor: float,
        aligned: bool,
        seed: int,
        s_map: Tensor | None = None,
    ) -> tuple[Tensor, int]:
        """Returns the images, of the input's size or (aligned) of the network's, and the number of faces found.

        Raises:
            GCFSRError: the mask has another size or batch than the images.
        """
        maps = masks(s_map, image)
        dial: Any = "auto" if auto_factor or s_map is not None else factor
        results, count = [], 0
        for frame, strengths in zip(image, maps, strict=True):
            array = to_array(frame)
            if aligned:
                results.append(to_image(restorer.restore(array, dial, strengths, seed=seed)))
                count += 1
            else:
                photo = restore_photo(
                    array, FaceRunner(restorer, Settings(seed=seed, factor=dial)), strengths=strengths
                )
                results.append(to_image(photo.image))
                count += len(photo.faces)
        return torch.stack(results), count


class SweepFace:
    """Restores one aligned face at several factors; the encoder runs once."""

    CATEGORY = CATEGORY
    FUNCTION = "sweep"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {**FACES, "factors": ("STRING", {"default": "2, 4, 8, 16"}), **SEED}}

    def sweep(self, restorer: Restorer, image: Tensor, factors: str, seed: int) -> tuple[Tensor]:
        """Returns a batch with one image per factor.

        Raises:
            GCFSRError: several images, or a factor that is not a number or out of the network's range.
        """
        if len(image) != 1:
            raise GCFSRError(f"image: a sweep takes one aligned face, not {len(image)}")
        try:
            chosen = [float(word) for word in factors.split(",")]
        except ValueError as error:
            raise GCFSRError(f"factors: {factors!r} is not a list of numbers such as 2, 4, 8") from error
        array = to_array(image[0])
        features = restorer.encode(array)
        faces = [restorer.decode(features, factor=factor, seed=seed, like=array) for factor in chosen]
        return (torch.stack([to_image(face) for face in faces]),)


def masks(s_map: Tensor | None, image: Tensor) -> list[np.ndarray | None]:
    """One map of strengths (H, W) per image of the batch, or None for each."""
    if s_map is None:
        return [None] * len(image)
    maps = s_map[None] if s_map.ndim == 2 else s_map
    if maps.shape[1:] != image.shape[1:3] or len(maps) not in (1, len(image)):
        raise GCFSRError(
            f"s_map: {tuple(maps.shape)} does not fit images of {tuple(image.shape[:3])}; give one map of that size"
        )
    return [maps[index if len(maps) > 1 else 0].cpu().numpy() for index in range(len(image))]
