"""Detectors and the search over scales, against facexlib's own detection and torchvision's NMS."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gcfsr_inference.photo import detect
from gcfsr_inference.photo.detect import build_detector
from gcfsr_inference.photo.detect.detection import Detection
from gcfsr_inference.photo.detect.search import TILE, levels, search, suppress, tiles

PHOTOS = {
    "cc0_selfie_1face_a.jpg": 1, "cc0_selfie_1face_b.jpg": 1, "fr_portrait_1face.jpg": 1, "fr_two_people_2faces.jpg": 2,
    "gfpgan_00_2faces.jpg": 2, "gfpgan_10045_3faces.png": 3, "london_001_smiling_1face.jpg": 1,
}  # fmt: skip
REAL = ("retinaface_mobile0.25", "yunet")


class BlobDetector:
    """Finds bright squares of 14 to 300 pixels, as a detector finds faces, and only at those sizes."""

    confidence = 0.5
    searches_scales = True

    def __init__(self) -> None:
        self.largest_input = 0

    def detect(self, image: np.ndarray) -> list[Detection]:
        self.largest_input = max(self.largest_input, image.shape[0] * image.shape[1])
        _, _, stats, _ = cv2.connectedComponentsWithStats((image[..., 0] > 128).astype(np.uint8))
        found = []
        for x, y, w, h, area in stats[1:]:
            if 14 <= w <= 300 and area > 0.6 * w * h:
                five = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]]) * [w, h] + [x, y]
                found.append(Detection(np.array([x, y, x + w, y + h], float), five, 0.9))
        return found


def squares(height: int, width: int, boxes: list[tuple[int, int, int]]) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    for x, y, side in boxes:
        image[y : y + side, x : x + side] = 255
    return image


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_small_and_large_faces_are_found_once_and_in_place(dtype: type) -> None:
    boxes = [(20, 30, 30), (400, 200, 1500), (2500, 1200, 230), (3560, 2560, 60), (1270, 2400, 40)]
    image = squares(3000, 4000, boxes)
    image = image if dtype == np.uint8 else image.astype(np.uint16) * 257
    detector = BlobDetector()
    found = search(image, detector, min_face=20)
    assert len(found) == len(boxes)
    for face, (x, y, side) in zip(found, sorted(boxes), strict=True):
        assert np.abs(face.box - [x, y, x + side, y + side]).max() <= max(3, 0.02 * side)
    assert detector.largest_input <= TILE * TILE


def test_a_small_face_on_the_border_of_two_tiles() -> None:
    """20 pixels: seen at the image's own size only, and there in no tile without overlap."""
    boxes = [(TILE - 10, 600, 20), (2 * TILE - 10, 700, 20), (500, TILE - 5, 20)]
    assert len(search(squares(2 * TILE, 3 * TILE, boxes), BlobDetector(), min_face=16)) == 3


def test_levels_end_where_the_smallest_wanted_face_is_large_enough() -> None:
    assert levels(3000, 4000, 20) == [0.16, 0.32, 0.64, 1.0]
    assert levels(3000, 4000, 200) == [0.16]
    assert levels(600, 640, 20) == [1.0]
    assert levels(100, 80, 20) == [1.0, 4.0]
    assert len(search(squares(100, 100, [(40, 40, 8)]), BlobDetector(), min_face=5)) == 1


@given(st.integers(1, 5000), st.integers(1, 5000))
@settings(max_examples=50, deadline=None)
def test_tiles_cover_the_level(height: int, width: int) -> None:
    seen = np.zeros((height // 8 + 1, width // 8 + 1), bool)
    for left, top, right, bottom in tiles(height, width):
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert max(right - left, bottom - top) <= TILE
        seen[top // 8 : bottom // 8 + 1, left // 8 : right // 8 + 1] = True
    assert seen.all()


@given(st.integers(0, 2**31), st.integers(0, 60))
@settings(max_examples=40, deadline=None)
def test_suppression_is_torchvisions(seed: int, count: int) -> None:
    nms = pytest.importorskip("torchvision").ops.nms
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 100, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 60, (count, 2))], axis=1)
    ranks = rng.permutation(count) / max(count, 1)
    faces = [Detection(box, np.zeros((5, 2)), 0.0) for box in boxes]
    expected = nms(torch.from_numpy(boxes), torch.from_numpy(ranks), 0.4).tolist()
    assert suppress(faces, list(ranks), overlap=0.4, inside=1.1) == expected


def test_a_box_inside_a_better_one_is_dropped() -> None:
    faces = [Detection(np.array(box, float), np.zeros((5, 2)), 0) for box in ([0, 0, 99, 99], [40, 40, 60, 60])]
    assert suppress(faces, [0.9, 0.8]) == [0]


def test_a_pattern_seen_at_one_scale_only_is_not_a_face() -> None:
    class OnlyAtNative(BlobDetector):
        def detect(self, image: np.ndarray) -> list[Detection]:
            return super().detect(image) if image.shape[0] > 1200 else []

    image = squares(2400, 2560, [(300, 300, 200)])
    assert len(search(image, BlobDetector())) == 1
    assert search(image, OnlyAtNative()) == []


@pytest.mark.parametrize("network", ["mobile0.25", "resnet50"])
def test_retinaface_is_facexlibs(network: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Same boxes and points as facexlib's own `detect_faces` (after its NMS), with real or drawn weights."""
    retinaface = pytest.importorskip("facexlib.detection.retinaface")
    if network == "resnet50":
        torch.manual_seed(0)
        path = tmp_path / detect.RETINAFACE_FILES[network]
        state = retinaface.RetinaFace(network_name=network, device="cpu").state_dict()
        for name in state:
            state[name] *= 1e-3 if "Head" in name else 1  # else the drawn network's boxes overflow
        torch.save({f"module.{name}": value for name, value in state.items()}, path)
        image, confidence = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8), 0.5
    else:
        path = request.getfixturevalue("shared") / "weights" / detect.RETINAFACE_FILES[network]
        image, confidence = astronaut(), 0.8
    detector = build_detector(f"retinaface_{network}", path, confidence)
    found = detector.detect(image)
    kept = suppress(found, [face.score for face in found], overlap=0.4, inside=1.1)
    with torch.no_grad():
        expected = detector.net.detect_faces(image, confidence, 0.4)
    assert len(kept) == len(expected) > 0
    ours = np.array([[*found[i].box, found[i].score, *found[i].landmarks.ravel()] for i in kept])
    np.testing.assert_allclose(ours, expected, atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("name", REAL)
def test_every_face_of_the_photographs_is_found(name: str, shared: Path) -> None:
    detector = build_detector(name, shared / "weights")
    for file, count in PHOTOS.items():
        found = search(cv2.imread(str(shared / "photos" / file)), detector)
        assert len(found) == count, file
        for face in found:  # order of the landmarks: eyes above nose above mouth, left before right
            left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
            assert left_eye[0] < right_eye[0]
            assert left_mouth[0] < right_mouth[0]
            assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


@pytest.mark.parametrize("name", REAL)
def test_faces_of_30_and_of_1500_pixels(name: str, shared: Path) -> None:
    """Also at once in one image."""
    detector = build_detector(name, shared / "weights")
    face = cv2.imread(str(shared / "photos" / "london_001_smiling_1face.jpg"))
    canvas = np.full((1600, 2200, 3), 128, np.uint8)
    box = search(face, detector)[0].box.astype(int)
    cut = face[max(0, box[1] - 150) : box[3] + 60, max(0, box[0] - 100) : box[2] + 100]
    for side, corner in ((1500, (0, 0)), (30, (40, 2100))):
        scale = side / (box[3] - box[1])
        small = cv2.resize(
            cut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        )
        window = canvas[corner[0] : corner[0] + small.shape[0], corner[1] : corner[1] + small.shape[1]]
        window[:] = small[: window.shape[0], : window.shape[1]]
    sizes = sorted(found.size for found in search(canvas, detector))
    assert len(sizes) == 2
    assert sizes == pytest.approx([30, 1500], rel=0.25)


@pytest.mark.parametrize("name", REAL)
def test_odd_images_have_no_face(name: str, shared: Path) -> None:
    detector = build_detector(name, shared / "weights")
    for shape in ((1, 1), (10, 4000), (2000, 3)):
        for dtype in (np.uint8, np.uint16):
            assert search(np.zeros((*shape, 3), dtype), detector) == []


def astronaut() -> np.ndarray:
    """scikit-image's photograph of Eileen Collins (public domain), BGR."""
    return np.ascontiguousarray(pytest.importorskip("skimage.data").astronaut()[..., ::-1])
