"""What the page does, without the page: one open photograph, its faces encoded once, decoded at every setting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from gcfsr_arch.conditions import CONDITIONS
from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.image_io import MAX_PIXELS, ImageData, encode_image, read_image, write_bytes_atomic
from gcfsr_inference.photo.detect import Detector
from gcfsr_inference.photo.paste import neighbours
from gcfsr_inference.photo.photograph import LEFT, Cut, PhotoOptions, cut_face, find_faces, restore_cuts
from gcfsr_inference.restore.consistency import Consistency, consistency
from gcfsr_inference.restore.restorer import Restorer
from gcfsr_inference.restore.runner import FaceRunner, Settings

VIEW = 1280  # long side in pixels of the images that the page shows
THUMBNAIL = 96  # pixels


@dataclass(frozen=True)
class Subject:
    """A face that can be restored.

    Attributes:
        number: from left to right.
        width: in pixels of the photograph.
        crop: the aligned face.
        factor: where `auto` sets the dial.
        cut: the face as it is restored.
        dials: where `auto` sets the network's other conditions, by name.
    """

    number: int
    width: float
    crop: np.ndarray
    factor: float
    cut: Cut
    dials: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Restored:
    """One restored face: the subject, the factor that was used (None: blind), the face, its consistency."""

    subject: Subject
    factor: float | None
    image: np.ndarray
    consistency: Consistency


@dataclass(frozen=True)
class Result:
    """The photograph at one setting, its restored faces, and why others were left unchanged, by number.

    `left` holds those of the chosen faces that do not gain, and those of the photograph that can never be restored.
    """

    image: np.ndarray
    faces: tuple[Restored, ...]
    left: dict[int, str]


class DemoSession:
    """One visitor's photograph. Its methods change nothing, so requests that overlap cannot mix their results.

    Args:
        restorer: shared by all visitors.
        detector: finds the faces.
        path: the uploaded file.
        max_pixels: of it, by its header.

    Raises:
        GCFSRError: not an image, or no face in it that can be restored.
    """

    def __init__(self, restorer: Restorer, detector: Detector, path: str | Path, max_pixels: int = MAX_PIXELS) -> None:
        self.restorer, self.runner, self.path = restorer, FaceRunner(restorer, remember=True), Path(path)
        self.image: ImageData = read_image(path, max_pixels)
        self.subjects, self.left = self._find(detector)

    def _find(self, detector: Detector) -> tuple[list[Subject], dict[int, str]]:
        """The faces that can be restored, and why others are left, by number."""
        image, faces = self.image.bgr, find_faces(self.image.bgr, detector, PhotoOptions())
        wanted = [face for face in faces if face.status == "to restore"]
        cuts = [cut for face in wanted if (cut := cut_face(face, image, self.runner)) is not None]
        left = {face.number: face.status.removeprefix(LEFT) for face in faces if face.status.startswith(LEFT)}
        if not cuts:
            reasons = "; ".join(dict.fromkeys(left.values()))
            raise GCFSRError(f"no face that can be restored: {reasons}" if left else "no face found in this image")
        subjects = [
            Subject(
                cut.face.number, float(cut.face.box[2] - cut.face.box[0]), cut.input.crop, cut.input.factor, cut,
                self._read(cut.input.crop),
            )
            for cut in cuts
        ]  # fmt: skip
        return subjects, left

    def _read(self, crop: np.ndarray) -> dict[str, float]:
        """What the network reads of its other conditions from a face."""
        if len(self.restorer.conditions) == 1:
            return {}
        found: Any = self.restorer.settled([self.restorer.strength(crop)], self.restorer.encode(crop))[0]
        return {name: value for name, value in found.items() if name != "factor"}

    def labels(self) -> list[str]:
        """One line per face, in order."""
        return [f"face {one.number}: {one.width:.0f} pixels, auto {one.factor:.1f}" for one in self.subjects]

    def thumbnails(self) -> list[np.ndarray]:
        """The faces as they are, (THUMBNAIL, THUMBNAIL, 3) RGB uint8."""
        size = (THUMBNAIL, THUMBNAIL)
        return [_rgb8(cv2.resize(one.crop, size, interpolation=cv2.INTER_AREA)) for one in self.subjects]

    def first_view(self) -> int | None:
        """What to show first: the largest face, where it is a small part of the photograph, or None for all of it."""
        largest = max(range(len(self.subjects)), key=lambda index: self.subjects[index].width)
        small = self.subjects[largest].width < 0.3 * self.image.bgr.shape[1]
        return largest if small else None

    def restore(self, chosen: Sequence[int], factor: float | None, dials: Mapping[str, float] | None = None) -> Result:
        """Restores the chosen faces as `gcfsr restore` does; decodes only what was encoded before.

        Args:
            chosen: indices of `subjects`.
            factor: for all of them; None: each at its own estimate, and faces that do not gain are left as they are.
            dials: settings of other conditions by name; those left out are read from each face.
        """
        before = self.image.bgr
        image = before.copy()
        subjects = [self.subjects[index] for index in chosen]
        cuts = [_at(one.cut, factor) for one in subjects]
        near = neighbours([cut.matrix for cut in cuts], self.restorer.out_size)
        others = dict(zip((one.number for one in subjects), near, strict=True))
        runner = FaceRunner(self.restorer, Settings(dials=dials), remember=True) if dials else self.runner
        restore_cuts(image, before, cuts, runner, PhotoOptions(), others, np.ones(2))
        faces, left = [], dict(self.left)
        for one, (face, _, _) in zip(subjects, cuts, strict=True):
            if face.restored is None or face.record is None:
                left[one.number] = face.status.removeprefix(LEFT)
            else:
                agreement = consistency(face.restored, one.crop, one.factor)
                faces.append(Restored(one, face.record.factor, face.restored, agreement))
        return Result(image, tuple(faces), dict(sorted(left.items())))

    def set_to(self, chosen: Sequence[int], dials: Sequence[float] | None) -> Result:
        """`restore` at the page's dials: the factor, then `CONDITIONS` after it; None: all at their estimates."""
        if dials is None:
            return self.restore(chosen, None)
        used = dict(zip(CONDITIONS, dials, strict=True))
        factor = used.pop("factor")
        return self.restore(chosen, factor, {n: v for n, v in used.items() if n in self.restorer.conditions})

    def views(self, result: Result, index: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Before and after as RGB uint8 of one size: the whole photograph (None), or one aligned face."""
        if index is not None:
            crop = self.subjects[index].crop
            restored = [face.image for face in result.faces if face.subject is self.subjects[index]]
            return _shown(crop), _shown(restored[0] if restored else crop)
        return _shown(self.image.bgr), _shown(result.image)

    def write(self, result: Result, folder: Path) -> Path:
        """Writes a result as PNG with the photograph's depth, alpha, colour profile and metadata; returns the file."""
        path = folder / f"{self.path.stem}_restored.png"
        source = self.image
        write_bytes_atomic(path, encode_image(result.image, source.alpha, source.icc, ".png", metadata=source.metadata))
        return path


def _at(cut: Cut, factor: float | None) -> Cut:
    """A face to restore once: at a factor given by hand, or at its own estimate."""
    given = cut.input if factor is None else cut.input._replace(factor=factor, least_factor=None)
    return cut._replace(face=replace(cut.face), input=given)


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
