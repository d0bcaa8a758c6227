"""Which way up is a face? Detectors call an upside-down face upright, with its eyes at its mouth, or miss it.

Every face that the upright search finds is detected again on its aligned crop, where the eyes must lie above the mouth
and the landmarks where they were. Where that is in doubt the face is searched for in its own region at four turns, and
the best confirmed one is taken. The whole image is searched at the other three turns as well, for faces that were
missed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.photo.detect.detection import Detection, Detector, overlap
from gcfsr_inference.photo.detect.search import COARSEST, search, suppress
from gcfsr_inference.photo.paste import align, crop_face, invert

SIDE = 128  # pixels of the aligned crop on which a face is detected again
REGION, REGION_SIDE = 1.6, 192  # the square around a box that is searched at four turns: over the box's size; in pixels
MOVED = 0.1  # root mean square distance that confirmed landmarks may lie from where they were, as a share of the side
TILT, ROUNDS = 15.0, 3  # degrees from which landmarks are refined on the aligned crop, and how often
ERROR_WEIGHT = 2.0  # of that distance against the score
MARGIN = 0.05  # by which another turn must be better: the upright search is the more exact
SURE = 0.84  # score - ERROR_WEIGHT * distance above which the other turns are not tried


def find(image: np.ndarray, detector: Detector, min_face: float = 20.0) -> list[Detection]:
    """The faces of an image, whichever way up they are; arguments and order as those of `search`.

    Returns:
        Detections whose landmarks are in the face's own order (its eyes first), also where it is turned. One that is
        not found again once it is aligned is not `confirmed`.
    """
    found = search(image, detector, min_face)
    if not detector.searches_scales:
        return found
    faces = [settle(image, detector, face) for face in found]
    faces += [face for face in _turned(image, detector, min_face, COARSEST) if _is_new(face, faces)]
    if not any(face.confirmed for face in faces):
        faces += [face for face in _turned(image, detector, min_face, max(image.shape[:2])) if _is_new(face, faces)]
    kept = suppress(faces, [face.score + face.confirmed for face in faces])
    return sorted((faces[index] for index in kept), key=lambda face: (face.box[0], face.box[1]))


def settle(image: np.ndarray, detector: Detector, face: Detection) -> Detection:
    """The face the right way up: itself or what its region shows at another turn; see `confirmed`."""
    quality, best = confirm(image, detector, face)
    if quality < SURE:
        for candidate in _at_turns(image, detector, face):
            better, settled = confirm(image, detector, candidate)
            if better > quality + MARGIN:
                quality, best = better - MARGIN, settled
    return best


def confirm(image: np.ndarray, detector: Detector, face: Detection) -> tuple[float, Detection]:
    """Detects a face again on its aligned crop.

    Returns:
        Its quality, score - `ERROR_WEIGHT` * distance (-inf where nothing is found there), and the face: with
        `confirmed` set. The landmarks of a tilted face are moved to where they are seen upright, until they stay.
    """
    quality = -np.inf
    for _ in range(ROUNDS):
        quality, seen, tilt = _again(image, detector, face.landmarks)
        if seen is None:
            return -np.inf, replace(face, confirmed=False)
        if abs(tilt) < TILT:
            break
        face = replace(face, landmarks=seen)
    return quality, replace(face, confirmed=True)


def _again(image: np.ndarray, detector: Detector, landmarks: np.ndarray) -> tuple[float, np.ndarray | None, float]:
    """Quality and landmarks (in the image, None where there are none) on the aligned crop, and its turn in degrees."""
    try:
        matrix = align(landmarks, SIDE)
        crop = crop_face(image, matrix, SIDE)
    except GCFSRError:
        return -np.inf, None, 0.0
    before = landmarks @ matrix[:, :2].T + matrix[:, 2]
    found = [(_distance(other.landmarks, before), other) for other in detector.detect(_as_uint8(crop))]
    distance, seen = min(found, key=lambda pair: pair[0], default=(np.inf, None))
    if seen is None or distance > MOVED or not _eyes_above_mouth(seen.landmarks):
        return -np.inf, None, 0.0
    back = invert(matrix)
    tilt = float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
    return seen.score - ERROR_WEIGHT * distance, seen.landmarks @ back[:, :2].T + back[:, 2], tilt


def _distance(points: np.ndarray, others: np.ndarray) -> float:
    """Root mean square distance of landmarks on the aligned crop, as a share of its side."""
    return float(np.sqrt(np.square(points - others).sum(axis=1).mean()) / SIDE)


def _eyes_above_mouth(points: np.ndarray) -> bool:
    left_eye, right_eye, nose, left_mouth, right_mouth = points[:, 1]
    return bool(left_eye + right_eye < 2 * nose < left_mouth + right_mouth)


def _at_turns(image: np.ndarray, detector: Detector, face: Detection) -> Iterator[Detection]:
    """What the square around a face's box shows at each turn: the detection that overlaps the box most."""
    middle, scale = face.box.reshape(2, 2).mean(axis=0), REGION_SIDE / (REGION * face.size)
    matrix = np.array([[scale, 0, 0], [0, scale, 0.0]])
    matrix[:, 2] = (REGION_SIDE - 1) / 2 - scale * middle
    try:
        region = _as_uint8(crop_face(image, matrix, REGION_SIDE))
    except GCFSRError:
        return
    back = invert(matrix)
    for turns in range(4):
        seen = [
            _moved(unturned(other, turns, region.shape[:2]), back)
            for other in detector.detect(np.ascontiguousarray(np.rot90(region, turns)))
        ]
        same = max(seen, key=lambda other: overlap(other.box, face.box), default=None)
        if same is not None and overlap(same.box, face.box) > 0.3:
            yield same


def _turned(image: np.ndarray, detector: Detector, min_face: float, longest: int) -> Iterator[Detection]:
    """Confirmed faces of the image at the three turns, searched at a long side of at most `longest` pixels."""
    scale = min(1.0, longest / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = image if scale == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    ratio = np.array([image.shape[1] / size[0], image.shape[0] / size[1]])
    back = np.concatenate([np.diag(ratio), (ratio / 2 - 0.5)[:, None]], axis=1)
    for turns in (1, 2, 3):
        for face in search(np.ascontiguousarray(np.rot90(small, turns)), detector, min_face * scale):
            settled = settle(image, detector, _moved(unturned(face, turns, small.shape[:2]), back))
            if settled.confirmed:
                yield settled


def unturned(face: Detection, turns: int, shape: tuple[int, int]) -> Detection:
    """A detection on `np.rot90(image, turns)` in the pixels of that image of `shape` (height, width)."""
    for turn in reversed(range(turns)):
        last = shape[1 - turn % 2] - 1  # of the width before that turn
        face = _mapped(face, lambda points, last=last: np.stack([last - points[:, 1], points[:, 0]], axis=1))
    return face


def _moved(face: Detection, matrix: np.ndarray) -> Detection:
    return _mapped(face, lambda points: points @ matrix[:, :2].T + matrix[:, 2])


def _mapped(face: Detection, move: Callable[[np.ndarray], np.ndarray]) -> Detection:
    corners = move(face.box.reshape(2, 2))
    box = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    return replace(face, box=box, landmarks=move(face.landmarks))


def _is_new(face: Detection, known: Sequence[Detection]) -> bool:
    """Whether no confirmed face lies there already."""
    return all(overlap(face.box, other.box) <= 0.3 for other in known if other.confirmed)


def _as_uint8(image: np.ndarray) -> np.ndarray:
    return image if image.dtype == np.uint8 else cv2.convertScaleAbs(image, alpha=255 / 65535)
