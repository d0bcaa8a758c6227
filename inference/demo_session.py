"""What the demo page does, without the page: one open photograph, its faces encoded once, decoded at every turn."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.image_io import Picture, encode_image, read_image, write_bytes_atomic
from gcfsr_inference.arrays import SQUARENESS, network_view
from gcfsr_inference.autofactor import estimate_factor
from gcfsr_inference.consistency import Consistency, consistency
from gcfsr_inference.detect import Detector, missing_weights
from gcfsr_inference.dial import clip_factor, strength_of_factor
from gcfsr_inference.paste import align, crop_face, paste_face, scale_of
from gcfsr_inference.photo import Face, PhotoOptions, find_faces
from gcfsr_inference.restorer import Restorer

VIEW = 1280  # long side in pixels of the pictures that the page shows
ENCODED = 4  # faces whose features are kept


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
        self.restorer = restorer
        self.picture: Picture = read_image(path)
        self.name = Path(path).stem
        self.faces = self._find(detector)
        self.result = self.picture.bgr
        self._features: OrderedDict[int, Any] = OrderedDict()
        self._folder = TemporaryDirectory(prefix="gcfsr-demo-")

    def _find(self, detector: Detector | None) -> list[Face]:
        image, size = self.picture.bgr, self.restorer.out_size
        if detector is None:
            return [self._whole()]
        faces = []
        for face in find_faces(image, detector, PhotoOptions()):
            try:
                face.matrix = align(face.landmarks, size)
                face.crop = crop_face(image, face.matrix, size)
            except GCFSRError:  # such a face cannot be chosen
                continue
            faces.append(self._judge(face, scale_of(face.matrix)))
        if not faces:
            raise GCFSRError("no face found in this picture")
        return faces

    def _whole(self) -> Face:
        """The picture itself as one aligned face."""
        height, width = self.picture.bgr.shape[:2]
        if max(height, width) > SQUARENESS * min(height, width):
            raise GCFSRError(
                f"{width}x{height} is no aligned face and no detector is at hand; {missing_weights('yunet')}"
            )
        crop = network_view(self.picture.bgr, self.restorer.out_size)
        corner = np.array([0.0, 0.0, width, height])
        return self._judge(Face(0, corner, np.zeros((5, 2)), 1.0, crop=crop), 1.0)

    def _judge(self, face: Face, scale: float) -> Face:
        """Notes the face's estimated factor."""
        face.factor = clip_factor(max(estimate_factor(face.crop, self.restorer.out_size), scale), self.restorer)
        return face

    def labels(self) -> list[str]:
        """One line per face, in order."""
        return [
            f"face {face.number}: {face.box[2] - face.box[0]:.0f} pixels, auto {face.factor:.1f}" for face in self.faces
        ]

    def turn(self, chosen: Sequence[int], factor: float | None) -> list[Turn]:
        """Restores the chosen faces (indices of `faces`) into `result`; only decodes what was encoded before.

        Args:
            chosen: indices.
            factor: for all of them; None: each at its own estimate.
        """
        canvas, turns = self.picture.bgr.copy(), []
        for index in chosen:
            face = self.faces[index]
            used = None if self.restorer.blind else (factor or face.factor)
            s = None if used is None else strength_of_factor(used, self.restorer)
            face.restored = self.restorer.decode(self._encoded(index), s, like=face.crop)
            turns.append(Turn(face.number, used, consistency(face.restored, face.crop, face.factor)))
            if face.matrix is None:
                canvas = face.restored.copy()
            else:
                paste_face(canvas, face.restored, face.crop, face.matrix)
        self.result = canvas
        return turns

    def _encoded(self, index: int) -> Any:
        """Features of one face; those of the last few are kept."""
        if index not in self._features:
            while len(self._features) >= ENCODED:
                self._features.popitem(last=False)
            self._features[index] = self.restorer.encode(self.faces[index].crop)
        self._features.move_to_end(index)
        return self._features[index]

    def views(self, index: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Before and after as RGB uint8 of one size: the whole photograph (None), or one aligned face."""
        if index is not None:
            face = self.faces[index]
            before, after = face.crop, face.crop if face.restored is None else face.restored
        else:
            before, after = self.picture.bgr, self.result
            if before.shape != after.shape:  # an aligned face that has the network's size now
                before = network_view(before, after.shape[0])
        return _shown(before), _shown(after)

    def write(self) -> Path:
        """Writes the result as PNG with the photograph's depth, alpha and colour profile; it lives as long as this."""
        path = Path(self._folder.name) / f"{self.name}_restored.png"
        alpha = self.picture.alpha if self.result.shape == self.picture.bgr.shape else None
        done = replace(self.picture, bgr=self.result, alpha=alpha)
        write_bytes_atomic(path, encode_image(done.bgr, done.alpha, done.icc, ".png"))
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
