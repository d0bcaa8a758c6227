"""What the demo page does, without the page: one open photograph, its faces encoded once, decoded at every turn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.image_io import Picture, encode_image, read_image, write_bytes_atomic
from gcfsr_inference.photo.detect import missing_weights
from gcfsr_inference.photo.detection import Detector
from gcfsr_inference.photo.paste import paste_face
from gcfsr_inference.photo.photograph import PhotoOptions, cut_face, find_faces
from gcfsr_inference.restore.arrays import SQUARENESS, network_view
from gcfsr_inference.restore.consistency import Consistency, consistency
from gcfsr_inference.restore.restorer import Restorer
from gcfsr_inference.restore.runner import FaceRunner

VIEW = 1280  # long side in pixels of the pictures that the page shows


@dataclass
class Subject:
    """A face that can be restored: its number, width in pixels, crop, place (None: the whole picture), estimate."""

    number: int
    width: float
    crop: np.ndarray
    matrix: np.ndarray | None
    factor: float
    restored: np.ndarray | None = None


@dataclass(frozen=True)
class Turn:
    """One position of the dial: for each chosen face its number, the factor used, and the consistency."""

    number: int
    factor: float | None
    consistency: Consistency


class DemoSession:
    """One visitor's photograph.

    Args:
        restorer: shared by all visitors.
        detector: None takes a roughly square picture as one aligned face.
        path: the uploaded file.

    Raises:
        GCFSRError: not a picture, no face, or no detector for a picture that is not square.
    """

    def __init__(self, restorer: Restorer, detector: Detector | None, path: str | Path) -> None:
        self.restorer, self.runner = restorer, FaceRunner(restorer)
        self.picture: Picture = read_image(path)
        self.name = Path(path).stem
        self.subjects = [self._whole()] if detector is None else self._find(detector)
        self.result = self.picture.bgr
        self._folder = TemporaryDirectory(prefix="gcfsr-demo-")

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
        """The picture itself as one aligned face."""
        height, width = self.picture.bgr.shape[:2]
        if max(height, width) > SQUARENESS * min(height, width):
            missing = missing_weights("yunet")
            raise GCFSRError(f"{width}x{height} is no aligned face and no detector is at hand; {missing}")
        crop = network_view(self.picture.bgr, self.restorer.out_size)
        return Subject(0, width, crop, None, self.runner.prepare(crop).factor)

    def labels(self) -> list[str]:
        """One line per face, in order."""
        return [f"face {one.number}: {one.width:.0f} pixels, auto {one.factor:.1f}" for one in self.subjects]

    def turn(self, chosen: Sequence[int], factor: float | None) -> list[Turn]:
        """Restores the chosen faces (indices of `subjects`) into `result`; only decodes what was encoded before.

        Args:
            chosen: indices.
            factor: for all of them; None: each at its own estimate.
        """
        canvas, turns = self.picture.bgr.copy(), []
        for index in chosen:
            one = self.subjects[index]
            used = None if self.restorer.blind else (factor or one.factor)
            one.restored = self.restorer.restore(one.crop, "auto" if used is None else used)
            turns.append(Turn(one.number, used, consistency(one.restored, one.crop, one.factor)))
            if one.matrix is None:
                canvas = one.restored.copy()
            else:
                paste_face(canvas, one.restored, one.crop, one.matrix)
        self.result = canvas
        return turns

    def views(self, index: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Before and after as RGB uint8 of one size: the whole photograph (None), or one aligned face."""
        if index is not None:
            one = self.subjects[index]
            return _shown(one.crop), _shown(one.crop if one.restored is None else one.restored)
        before, after = self.picture.bgr, self.result
        if before.shape != after.shape:  # an aligned face that has the network's size now
            before = network_view(before, after.shape[0])
        return _shown(before), _shown(after)

    def write(self) -> Path:
        """Writes the result as PNG with the photograph's depth, alpha and colour profile; it lives as long as this."""
        path = Path(self._folder.name) / f"{self.name}_restored.png"
        alpha = self.picture.alpha if self.result.shape == self.picture.bgr.shape else None
        done = replace(self.picture, bgr=self.result, alpha=alpha)
        write_bytes_atomic(path, encode_image(done.bgr, done.alpha, done.icc, ".png", metadata=done.metadata))
        return path


def _shown(image: np.ndarray) -> np.ndarray:
    """RGB uint8, at most `VIEW` pixels a side, at least 512 (so that a small face can be compared)."""
    if image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=255 / 65535)
    longest = max(image.shape[:2])
    scale = min(1.0, VIEW / longest) if longest >= 512 else 512 / longest
    if scale != 1:
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=method)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
