"""What the page does, without the page: one open photograph, its faces encoded once, decoded at every setting."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.image_io import Picture, encode_image, read_image, write_bytes_atomic
from gcfsr_inference.photo.detect import Detector, missing_weights
from gcfsr_inference.photo.paste import paste_face
from gcfsr_inference.photo.photograph import PhotoOptions, cut_face, find_faces
from gcfsr_inference.restore.arrays import SQUARENESS, network_view
from gcfsr_inference.restore.consistency import Consistency, consistency
from gcfsr_inference.restore.restorer import Restorer
from gcfsr_inference.restore.runner import FaceRunner

VIEW = 1280  # long side in pixels of the images that the page shows
THUMBNAIL = 96  # pixels


@dataclass(frozen=True)
class Subject:
    """A face that can be restored: its number, width in pixels, crop, place (None: the whole image), estimate."""

    number: int
    width: float
    crop: np.ndarray
    matrix: np.ndarray | None
    factor: float


@dataclass(frozen=True)
class Restored:
    """One restored face: the subject, the factor that was used (None: blind), the face, its consistency."""

    subject: Subject
    factor: float | None
    image: np.ndarray
    consistency: Consistency


@dataclass(frozen=True)
class Result:
    """The photograph at one setting, and its restored faces."""

    image: np.ndarray
    faces: tuple[Restored, ...]


class DemoSession:
    """One visitor's photograph. Its methods change nothing, so requests that overlap cannot mix their results.

    Args:
        restorer: shared by all visitors.
        detector: None takes a roughly square image as one aligned face.
        path: the uploaded file.

    Raises:
        GCFSRError: not an image, no face, or no detector for an image that is not square.
    """

    def __init__(self, restorer: Restorer, detector: Detector | None, path: str | Path) -> None:
        self.restorer, self.runner, self.path = restorer, FaceRunner(restorer), Path(path)
        self.picture: Picture = read_image(path)
        self.subjects = [self._whole()] if detector is None else self._find(detector)

    def _find(self, detector: Detector) -> list[Subject]:
        """The faces that can be aligned."""
        image = self.picture.bgr
        cuts = [cut_face(face, image, self.runner) for face in find_faces(image, detector, PhotoOptions())]
        subjects = [
            Subject(face.number, float(face.box[2] - face.box[0]), given.crop, matrix, given.factor)
            for face, matrix, given in filter(None, cuts)
        ]
        if not subjects:
            raise GCFSRError("no face found in this image")
        return subjects

    def _whole(self) -> Subject:
        """The image itself as one aligned face."""
        height, width = self.picture.bgr.shape[:2]
        if max(height, width) > SQUARENESS * min(height, width):
            missing = missing_weights("yunet")
            raise GCFSRError(f"{width}x{height} is not an aligned face, and no detector is available; {missing}")
        crop = network_view(self.picture.bgr, self.restorer.out_size)
        return Subject(0, width, crop, None, self.runner.prepare(crop).factor)

    def labels(self) -> list[str]:
        """One line per face, in order."""
        return [f"face {one.number}: {one.width:.0f} pixels, auto {one.factor:.1f}" for one in self.subjects]

    def thumbnails(self) -> list[np.ndarray]:
        """The faces as they are, (THUMBNAIL, THUMBNAIL, 3) RGB uint8."""
        size = (THUMBNAIL, THUMBNAIL)
        return [_rgb8(cv2.resize(one.crop, size, interpolation=cv2.INTER_AREA)) for one in self.subjects]

    def smallest_view(self) -> int | None:
        """What to show first: the largest face, where it is a small part of the photograph, or None for all of it."""
        largest = max(range(len(self.subjects)), key=lambda index: self.subjects[index].width)
        small = self.subjects[largest].width < 0.3 * self.picture.bgr.shape[1]
        return largest if small and self.subjects[largest].matrix is not None else None

    def restore(self, chosen: Sequence[int], factor: float | None) -> Result:
        """Restores the chosen faces; decodes only what was encoded before.

        Args:
            chosen: indices of `subjects`.
            factor: for all of them; None: each at its own estimate.
        """
        image, faces = self.picture.bgr.copy(), []
        for one in (self.subjects[index] for index in chosen):
            used = None if self.restorer.blind else (factor or one.factor)
            restored = self.restorer.restore(one.crop, "auto" if used is None else used)
            faces.append(Restored(one, used, restored, consistency(restored, one.crop, one.factor)))
            if one.matrix is None:
                image = restored
            else:
                paste_face(image, restored, one.crop, one.matrix)
        return Result(image, tuple(faces))

    def views(self, result: Result, index: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Before and after as RGB uint8 of one size: the whole photograph (None), or one aligned face."""
        if index is not None:
            crop = self.subjects[index].crop
            restored = [face.image for face in result.faces if face.subject is self.subjects[index]]
            return _shown(crop), _shown(restored[0] if restored else crop)
        before, after = self.picture.bgr, result.image
        if before.shape != after.shape:  # an aligned face that has the network's size now
            before = network_view(before, after.shape[0])
        return _shown(before), _shown(after)

    def write(self, result: Result, folder: Path) -> Path:
        """Writes a result as PNG with the photograph's depth, alpha, colour profile and metadata; returns the file."""
        path = folder / f"{self.path.stem}_restored.png"
        alpha = self.picture.alpha if result.image.shape == self.picture.bgr.shape else None
        done = replace(self.picture, bgr=result.image, alpha=alpha)
        write_bytes_atomic(path, encode_image(done.bgr, done.alpha, done.icc, ".png", metadata=done.metadata))
        return path


def _rgb8(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=255 / 65535)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _shown(image: np.ndarray) -> np.ndarray:
    """RGB uint8, at most `VIEW` pixels a side, at least 512 (so that a small face can be compared)."""
    image, longest = _rgb8(image), max(image.shape[:2])
    scale = min(1.0, VIEW / longest) if longest >= 512 else 512 / longest
    if scale != 1:
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=method)
    return image
