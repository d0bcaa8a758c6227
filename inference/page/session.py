"""What the page does, without the page: one open photograph, its faces encoded once, decoded at every setting."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.image_io import ImageData, encode_image, read_image, write_bytes_atomic
from gcfsr_inference.photo.detect import Detector
from gcfsr_inference.photo.gain import reason_to_leave
from gcfsr_inference.photo.paste import neighbours, paste_face
from gcfsr_inference.photo.photograph import PhotoOptions, cut_face, find_faces
from gcfsr_inference.photo.tone import match_color
from gcfsr_inference.restore.consistency import Consistency, consistency
from gcfsr_inference.restore.restorer import Restorer
from gcfsr_inference.restore.runner import FaceRunner

VIEW = 1280  # long side in pixels of the images that the page shows
THUMBNAIL = 96  # pixels


@dataclass(frozen=True)
class Subject:
    """A face that can be restored.

    Attributes:
        number: from left to right.
        width: in pixels of the photograph.
        crop: the aligned face.
        matrix: (2, 3) from the photograph's pixels to the crop's.
        factor: where `auto` sets the dial.
        input_factor: how many times fewer pixels than the result it really has.
        near: the alignments of faces that may share pixels with it.
    """

    number: int
    width: float
    crop: np.ndarray
    matrix: np.ndarray
    factor: float
    input_factor: float
    near: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True)
class Restored:
    """One restored face: the subject, the factor that was used (None: blind), the face, its consistency."""

    subject: Subject
    factor: float | None
    image: np.ndarray
    consistency: Consistency


@dataclass(frozen=True)
class Result:
    """The photograph at one setting, its restored faces, and why others were left as they were, by number."""

    image: np.ndarray
    faces: tuple[Restored, ...]
    left: dict[int, str]


class DemoSession:
    """One visitor's photograph. Its methods change nothing, so requests that overlap cannot mix their results.

    Args:
        restorer: shared by all visitors.
        detector: finds the faces.
        path: the uploaded file.

    Raises:
        GCFSRError: not an image, or no face in it.
    """

    def __init__(self, restorer: Restorer, detector: Detector, path: str | Path) -> None:
        self.restorer, self.runner, self.path = restorer, FaceRunner(restorer), Path(path)
        self.picture: ImageData = read_image(path)
        self.subjects = self._find(detector)

    def _find(self, detector: Detector) -> list[Subject]:
        """The faces that can be aligned."""
        image = self.picture.bgr
        found = (cut_face(face, image, self.runner) for face in find_faces(image, detector, PhotoOptions()))
        cuts = [cut for cut in found if cut is not None]
        if not cuts:
            raise GCFSRError("no face found in this image")
        near = neighbours([cut.matrix for cut in cuts], self.restorer.out_size)
        return [
            Subject(
                face.number, float(face.box[2] - face.box[0]), given.crop, matrix, given.factor, given.input_factor,
                tuple(others),
            )
            for (face, matrix, given), others in zip(cuts, near, strict=True)
        ]  # fmt: skip

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
        return largest if small else None

    def restore(self, chosen: Sequence[int], factor: float | None) -> Result:
        """Restores the chosen faces as `gcfsr restore` does; decodes only what was encoded before.

        Args:
            chosen: indices of `subjects`.
            factor: for all of them; None: each at its own estimate, and faces that do not gain are left as they are.
        """
        before, faces, left = self.picture.bgr, [], {}
        image = before.copy()
        for one in (self.subjects[index] for index in chosen):
            used = None if self.restorer.blind else (factor or one.factor)
            restored = match_color(self.restorer.restore(one.crop, "auto" if used is None else used), one.crop)
            reason = self._reason_to_leave(one, restored) if factor is None else None
            if reason is not None:
                left[one.number] = reason
                continue
            faces.append(Restored(one, used, restored, consistency(restored, one.crop, one.factor)))
            paste_face(image, restored, one.crop, one.matrix, others=one.near, before=before)
        return Result(image, tuple(faces), left)

    def _reason_to_leave(self, one: Subject, restored: np.ndarray) -> str | None:
        return reason_to_leave(one.crop, one.input_factor, self.runner.least_factor, restored)

    def views(self, result: Result, index: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Before and after as RGB uint8 of one size: the whole photograph (None), or one aligned face."""
        if index is not None:
            crop = self.subjects[index].crop
            restored = [face.image for face in result.faces if face.subject is self.subjects[index]]
            return _shown(crop), _shown(restored[0] if restored else crop)
        return _shown(self.picture.bgr), _shown(result.image)

    def write(self, result: Result, folder: Path) -> Path:
        """Writes a result as PNG with the photograph's depth, alpha, colour profile and metadata; returns the file."""
        path = folder / f"{self.path.stem}_restored.png"
        source = self.picture
        write_bytes_atomic(path, encode_image(result.image, source.alpha, source.icc, ".png", metadata=source.metadata))
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
