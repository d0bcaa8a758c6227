"""Batches of images as data engines hand them over: Ray Data, or any loop over dictionaries of arrays."""

import os
from typing import Any

import numpy as np

from gcfsr_arch.devices import choose_device
from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.photo.detect import build_detector, find_detector
from gcfsr_inference.photo.photograph import PhotoOptions, restore_photo
from gcfsr_inference.restore.arrays import check_face, check_photo
from gcfsr_inference.restore.restorer import Restorer
from gcfsr_inference.restore.runner import FaceRunner, Settings


class RestoreBatch:
    """Restores the images of a batch, each as `gcfsr restore` alone would: how images are batched changes no byte.

    The network is opened when an instance is made, so an engine opens it once for each of its workers:

        images = ray.data.read_images("photos", mode="RGB", include_paths=True)
        images = images.map_batches(gcfsr.RestoreBatch, concurrency=2, num_cpus=0.5, batch_size=4)
        images.write_images("restored", column="image")

    Args:
        checkpoint: as of `Restorer.load`.
        device: as of `Restorer.load`.
        aligned: images are aligned faces, not photographs.
        settings: the dial; the default estimates each face's factor.
        options: of photographs; the default restores every face that a detector finds.
        detector: of photographs, by name; None takes the best whose weights are available.
        column: the key of the images.

    Raises:
        GCFSRError: as of `Restorer.load` and `build_detector`.
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike | None = None,
        device: str = "auto",
        aligned: bool = False,
        settings: Settings | None = None,
        options: PhotoOptions | None = None,
        detector: str | None = None,
        column: str = "image",
    ) -> None:
        device = choose_device(device)
        self.runner = FaceRunner(Restorer.load(checkpoint, device), settings)
        self.detector = None if aligned else build_detector(detector or find_detector(), device=device)
        self.options, self.column = options, column

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Restores one batch.

        Args:
            batch: `column` holds N images of uint8 or uint16, each (H, W, 3) RGB (aligned faces also gray or RGBA): one
                array, or an array of arrays where their sizes differ.

        Returns:
            The batch with its images restored (photographs in their own size, times `options.upscale`; aligned faces in
            the network's), and two columns more: `faces`, how many were restored, and `error`, "" or why an image was
            left unchanged.
        """
        done = [self._restore(np.asarray(image)) for image in batch[self.column]]
        images = [image for image, _, _ in done]
        faces, errors = np.array([count for _, count, _ in done]), np.array([error for _, _, error in done], object)
        return {**batch, self.column: _joined(images), "faces": faces, "error": errors}

    def _restore(self, image: np.ndarray) -> tuple[np.ndarray, int, str]:
        """The restored image, how many faces were restored, and what went wrong."""
        swapped = _swapped(image)
        try:
            if self.detector is None:
                check_face(swapped, self.column)
                (face,) = self.runner.restore_faces([self.runner.prepare(swapped)])
                result, count = face.image, 1
            else:
                check_photo(swapped, self.column)
                done = restore_photo(swapped, self.runner, self.detector, self.options)
                result, count = done.image, sum(face.status == "restored" for face in done.faces)
        except GCFSRError as error:
            return image, 0, str(error)
        return _swapped(result), count, ""


def _swapped(image: np.ndarray) -> np.ndarray:
    """RGB as BGR, or the other way round; gray and alpha stay as they are."""
    colours = image.ndim == 3 and image.shape[2] >= 3
    return image[..., [2, 1, 0, *range(3, image.shape[2])]] if colours else image


def _joined(images: list[np.ndarray]) -> np.ndarray:
    """One array of all images, (N, H, W, C), or an array of arrays where their shapes differ."""
    if len({image.shape for image in images}) == 1:
        return np.stack(images)
    joined = np.empty(len(images), object)
    joined[:] = images
    return joined
