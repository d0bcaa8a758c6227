"""Faces at any turn: found with their eyes above their mouth, or left as they are."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from gcfsr_inference.photo.detect import build_detector
from gcfsr_inference.photo.detect.detection import Detection
from gcfsr_inference.photo.detect.search import search
from gcfsr_inference.photo.detect.turned import confirm, find, unturned
from gcfsr_inference.photo.paste import TEMPLATE

LANDMARKS = np.array([[200, 102], [247, 103], [220, 125], [199, 143], [240, 144]])  # of the astronaut, by hand


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    """scikit-image's photograph of Eileen Collins (public domain), BGR."""
    return np.ascontiguousarray(pytest.importorskip("skimage.data").astronaut()[..., ::-1])


def at(point: np.ndarray) -> Detection:
    """A detection whose box and landmarks all lie at one pixel."""
    return Detection(np.tile(point, 2).astype(float), np.tile(point, (5, 1)).astype(float), 0.9)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_detection_is_turned_back(turns: int) -> None:
    """Against numpy: a marked pixel of the turned image is the one that was marked."""
    image = np.zeros((5, 9), np.uint8)
    image[1, 7] = 1
    y, x = np.argwhere(np.rot90(image, turns))[0]
    back = unturned(at(np.array([x, y])), turns, image.shape)
    np.testing.assert_array_equal(back.landmarks[0], [7, 1])
    np.testing.assert_array_equal(back.box, [7, 1, 7, 1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_face_at_every_turn(astronaut: np.ndarray, turns: int, dtype: type) -> None:
    image = np.ascontiguousarray(np.rot90(astronaut, turns))
    image = image if dtype == np.uint8 else image.astype(np.uint16) * 257
    (face,) = find(image, build_detector("yunet"))
    assert face.confirmed
    landmarks = unturned(face, turns, astronaut.shape[:2]).landmarks
    errors = np.linalg.norm(landmarks - LANDMARKS, axis=1)  # pixels; the eyes are 47 apart
    assert errors.max() < 8.5  # at most 0.6 upright, 5.5 on a side, 8.0 upside down
    assert errors.mean() < 4.5  # 0.4, 2.5, 4.3


@pytest.mark.parametrize("angle", [40, 135, 215])
def test_a_face_at_any_angle(astronaut: np.ndarray, angle: int) -> None:
    matrix = cv2.getRotationMatrix2D((220, 125), angle, 1.0)
    matrix[:, 2] += [60, 155]
    image = cv2.warpAffine(astronaut, matrix, (560, 560), borderMode=cv2.BORDER_REPLICATE)
    faces = [face for face in find(image, build_detector("yunet")) if face.confirmed]
    assert len(faces) == 1
    expected = LANDMARKS @ matrix[:, :2].T + matrix[:, 2]
    assert np.linalg.norm(faces[0].landmarks - expected, axis=1).max() < 0.15 * faces[0].size


@pytest.mark.parametrize("name", ["yunet", "retinaface_mobile0.25"])
def test_photographs_at_every_turn(name: str, shared: Path) -> None:
    """As many faces as upright, each with its landmarks in the same places."""
    detector = build_detector(name, shared / "weights")
    for path, turn in (("photos/fr_two_people_2faces.jpg", 0), ("cases/two_180.png", 2)):
        upright = np.ascontiguousarray(np.rot90(cv2.imread(str(shared / path)), turn))
        expected = search(upright, detector)
        for turns in range(4):
            found = find(np.ascontiguousarray(np.rot90(upright, turns)), detector)
            assert len(found) == len(expected) == 2
            assert all(face.confirmed for face in found)
            for face in (unturned(face, turns, upright.shape[:2]) for face in found):
                distances = [np.linalg.norm(face.landmarks - other.landmarks, axis=1).mean() for other in expected]
                assert min(distances) < 0.08 * face.size, (path, turns)


class Once:
    """Finds a face in the whole image, but none on any crop of it."""

    confidence, searches_scales = 0.5, True

    def detect(self, image: np.ndarray) -> list[Detection]:
        if image.shape[1] < 250:
            return []
        return [Detection(np.array([20.0, 20, 120, 120]), TEMPLATE * 100 + 20, 0.9)]


def test_what_is_not_seen_again_is_not_confirmed() -> None:
    image = np.full((640, 640, 3), 90, np.uint8)
    assert [face.confirmed for face in find(image, Once())] == [False]


def test_eyes_below_the_mouth_are_not_confirmed() -> None:
    class UpsideDown(Once):
        def detect(self, image: np.ndarray) -> list[Detection]:
            points = (1 - TEMPLATE[[1, 0, 2, 4, 3]]) * image.shape[0]
            return [Detection(np.array([0.0, 0, *image.shape[1::-1]]), points, 0.9)]

    face = Detection(np.array([0.0, 0, 200, 200]), TEMPLATE * 200, 0.9)
    quality, same = confirm(np.zeros((200, 200, 3), np.uint8), UpsideDown(), face)
    assert quality == -np.inf
    assert not same.confirmed
