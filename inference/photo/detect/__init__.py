"""Face detectors behind one small interface: facexlib's RetinaFace, OpenCV's YuNet, landmarks from a JSON file."""

from copy import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from pydantic import Field, TypeAdapter, model_validator

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.documents import MOST_FACES, Box, Landmarks, Name, Number, Part, read_document
from gcfsr_inference.photo.detect.detection import Detection, Detector, detections
from gcfsr_inference.restore.weights import find_file, missing

RETINAFACE_FILES = {"resnet50": "detection_Resnet50_Final.pth", "mobile0.25": "detection_mobilenet0.25_Final.pth"}
YUNET_PATTERN = "face_detection_yunet_*.onnx"
CONFIDENCE = {"retinaface_resnet50": 0.9, "retinaface_mobile0.25": 0.93, "yunet": 0.7, "landmarks": 0.0}
DETECTORS = tuple(CONFIDENCE)
LEAST_CONFIDENCE = 0.05  # at 0 a small photograph has hundreds of faces, each of which is examined


class YuNetDetector:
    """OpenCV's YuNet (`cv2.FaceDetectorYN`); finds faces of about 10 to 300 pixels of its input."""

    searches_scales = True

    def __init__(self, path: Path, confidence: float = 0.7) -> None:
        self.confidence = confidence
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # it warns of its own default target
        try:
            self.net = cv2.FaceDetectorYN.create(str(path), "", (320, 320), confidence, 0.4, 5000)
        except cv2.error as error:
            raise GCFSRError(f"{path}: not a YuNet model that OpenCV can read; give {YUNET_PATTERN}") from error
        finally:
            cv2.utils.logging.setLogLevel(level)

    def detect(self, image: np.ndarray) -> list[Detection]:
        """Finds the faces of one BGR uint8 image at the size it is given."""
        self.net.setInputSize((image.shape[1], image.shape[0]))
        _, rows = self.net.detect(image)
        if rows is None:
            return []
        boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
        return detections(boxes, rows[:, 4:14], rows[:, 14])


class LandmarkFile:
    """Faces given by hand: a JSON list of faces, or an object of such lists by image name.

    A face is a list of five [x, y], or an object with `landmarks` and, if known, `box` and `score`. The order is that
    of `Detection.landmarks`.

    Raises:
        GCFSRError: the file is missing, is no JSON, or a face in it is not of this form.
    """

    searches_scales = False
    confidence = 0.0

    def __init__(self, path: Path) -> None:
        self.content = read_document(path, TypeAdapter(_LandmarkDocument), "a JSON file of landmarks")
        self.path = path
        self.image: str | None = None

    def of_image(self, name: str | None) -> "LandmarkFile":
        """The faces that the file lists for an image, by its file name."""
        chosen = copy(self)
        chosen.image = name
        return chosen

    def detect(self, image: np.ndarray) -> list[Detection]:
        """The faces of the image that `of_image` named, or of the file's only list."""
        faces, images = self.content.faces, self.content.images
        if faces is None:
            if self.image not in images:
                raise GCFSRError(f"{self.path}: no entry for the image {self.image}; it has {', '.join(images)}")
            faces = images[self.image]
        return [_detection(np.array(face.landmarks), face.box, face.score) for face in faces]


class _LandmarkFace(Part):
    landmarks: Landmarks
    box: Box | None = None
    score: Number = 1.0

    @model_validator(mode="before")
    @classmethod
    def _points_alone(cls, content: Any) -> Any:
        return {"landmarks": content} if isinstance(content, list) else content


_Faces = Annotated[list[_LandmarkFace], Field(max_length=MOST_FACES)]


class _LandmarkDocument(Part):
    """The faces of any image, or those of each image by its name."""

    faces: _Faces | None = None
    images: dict[Name, _Faces] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _either(cls, content: Any) -> Any:
        return {"images": content} if isinstance(content, dict) else {"faces": content}


def _detection(points: np.ndarray, box: list[float] | None, score: float) -> Detection:
    return Detection(
        np.array(_box_around(points) if box is None else box, np.float64), points.astype(np.float64), score
    )


def build_detector(
    name: str, weights: str | Path | None = None, confidence: float | None = None, device: str = "cpu"
) -> Detector:
    """Builds a detector by name.

    Args:
        name: one of `DETECTORS`.
        weights: its file or a folder that holds it (for `landmarks`: the JSON file). By default the folders of
            `restore.weights`, of which the package's has YuNet.
        confidence: least score in [0.05, 1] that counts as a face; None: the detector's usual one.
        device: where RetinaFace runs.

    Raises:
        GCFSRError: unknown name, a missing or unreadable file, or a confidence out of range.
    """
    if name not in CONFIDENCE:
        raise GCFSRError(f"detector {name}: unknown; choose {', '.join(DETECTORS)}")
    confidence = CONFIDENCE[name] if confidence is None else confidence
    if not LEAST_CONFIDENCE <= confidence <= 1 and name != "landmarks":
        raise GCFSRError(f"confidence {confidence}: must lie in [{LEAST_CONFIDENCE}, 1]; below it all is a face")
    if name == "landmarks":
        if weights is None:
            raise GCFSRError("detector landmarks: needs the JSON file that holds them")
        return LandmarkFile(Path(weights))
    path = find_weights(name, weights)
    if path is None:
        raise GCFSRError(missing_weights(name, weights))
    if name == "yunet":
        return YuNetDetector(path, confidence)
    if find_spec("facexlib") is None:
        raise GCFSRError(f"detector {name}: facexlib is not installed; pip install 'gcfsr[photo]', or use yunet")
    from gcfsr_inference.photo.detect.retinaface import RetinaFaceDetector

    return RetinaFaceDetector(path, name.removeprefix("retinaface_"), confidence, device)


def find_weights(name: str, weights: str | Path | None = None) -> Path | None:
    """The weights file of a detector: `weights` itself, or found as `restore.weights` says; else None."""
    if weights is not None and Path(weights).is_file():
        return Path(weights)
    return find_file(_weights_pattern(name), weights)


def find_detector(weights: str | Path | None = None) -> str:
    """The best detector whose weights (and for RetinaFace facexlib) are available; YuNet comes with the package."""
    better = [name for name in DETECTORS if name.startswith("retinaface")] if find_spec("facexlib") else []
    return next((name for name in better if find_weights(name, weights)), "yunet")


def missing_weights(name: str, weights: str | Path | None = None) -> str:
    """One line that says which file a detector needs and where it belongs."""
    source = "OpenCV's model zoo" if name == "yunet" else "facexlib's release v0.1.0"
    return missing(_weights_pattern(name), f"the detector {name}", source, weights)


def _weights_pattern(name: str) -> str:
    return YUNET_PATTERN if name == "yunet" else RETINAFACE_FILES[name.removeprefix("retinaface_")]


def _box_around(points: np.ndarray) -> list[float]:
    """A box about as wide as a detector's, from five landmarks."""
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    pad = max(right - left, bottom - top) / 2
    return [left - pad, top - pad, right + pad, bottom + pad]
