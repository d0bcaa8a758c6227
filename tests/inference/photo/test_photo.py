"""Whole photographs with a stand-in restorer: which faces, in which batches, what stays as it was, how much memory."""

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.photo.detect import LandmarkFile, build_detector
from gcfsr_inference.photo.detect.detection import Detection
from gcfsr_inference.photo.detect.face_choice import choose
from gcfsr_inference.photo.paste import TEMPLATE
from gcfsr_inference.photo.photograph import Face, PhotoOptions, restore_photo
from gcfsr_inference.restore.restorer import Restorer
from gcfsr_inference.restore.runner import FaceInput, FaceRecord, FaceResult, FaceRunner, Settings


class Brighten:
    """Restores a face by making it brighter by a fifth of the range, and keeps count of what it was given."""

    def __init__(self, out_size: int = 64) -> None:
        self.out_size = out_size
        self.batches: list[int] = []
        self.scales: list[float] = []

    def prepare(self, crop: np.ndarray, scale: float = 1.0, factor: float | None = None) -> FaceInput:
        self.scales.append(scale)
        return FaceInput(crop, 4.0, factor or max(4.0, scale))

    def restore_faces(self, faces: Sequence[FaceInput]) -> list[FaceResult]:
        assert all(face.crop.shape == (self.out_size, self.out_size, 3) for face in faces)
        self.batches.append(len(faces))
        step = np.iinfo(faces[0].crop.dtype).max // 5
        return [
            FaceResult(
                np.minimum(face.crop, np.iinfo(face.crop.dtype).max - step) + np.array(step, face.crop.dtype),
                FaceRecord(face.factor, face.input_factor, 0, len(faces)),
            )
            for face in faces
        ]


def landmark_file(path: Path, faces: list[tuple[float, float, float]]) -> LandmarkFile:
    """Faces of (left, top, side), upright, as a JSON file."""
    path.write_text(json.dumps([(TEMPLATE * side + [x, y]).tolist() for x, y, side in faces]))
    return LandmarkFile(path)


def gray(height: int = 400, width: int = 600, dtype: type = np.uint8) -> np.ndarray:
    return np.full((height, width, 3), np.iinfo(dtype).max // 3, dtype)


FACES = [(20.0, 30.0, 100.0), (200.0, 100.0, 200.0), (450.0, 20.0, 60.0)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_faces_change_and_the_rest_does_not(dtype: type, tmp_path: Path) -> None:
    image, restorer = gray(dtype=dtype), Brighten()
    before = image.copy()
    result = restore_photo(
        image,
        restorer,
        landmark_file(tmp_path / "f.json", FACES),
        PhotoOptions(match_color=False, agreement=0, batch=2),
    )
    np.testing.assert_array_equal(image, before)
    assert result.image.dtype == dtype
    assert restorer.batches == [2, 1]
    assert restorer.scales == pytest.approx([0.64, 0.32, 64 / 60], rel=1e-6)
    assert [face.status for face in result.faces] == ["restored"] * 3
    changed = (result.image != before).any(axis=2)
    mask = np.zeros_like(changed)
    for x, y, side in FACES:
        cut = np.s_[int(y) - 1 : int(y + side) + 2, int(x) - 1 : int(x + side) + 2]
        mask[cut] = True
        middle = int(y + side / 2), int(x + side / 2)
        assert result.image[middle][0] == before[middle][0] + np.iinfo(dtype).max // 5
    assert not (changed & ~mask).any()
    assert changed.sum() > 0.7 * sum(side * side for _, _, side in FACES)


@pytest.mark.parametrize(
    ("faces", "expected"), [("all", [0, 1, 2]), ("largest", [1]), ("center", [1]), ("2", [2]), ("2,0,2", [0, 2])]
)
def test_choosing_faces(faces: str, expected: list[int], tmp_path: Path) -> None:
    detector = landmark_file(tmp_path / "f.json", FACES)
    result = restore_photo(gray(), Brighten(), detector, PhotoOptions(match_color=False, agreement=0, faces=faces))
    assert [face.number for face in result.faces if face.status == "restored"] == expected
    assert all(face.factor is None for face in result.faces if face.status == "not chosen")


@pytest.mark.parametrize(
    "image",
    [None, gray()[..., 0], np.dstack([gray(), gray()[..., :1]]), gray()[:0], gray() / 255, gray().astype(np.float32)],
)
def test_arrays_that_are_no_photographs_are_refused(image, tmp_path: Path) -> None:
    """Floats were searched as if they were 8 bits, and no face was found."""
    with pytest.raises(GCFSRError, match=r"^image: photographs are \(H, W, 3\) arrays of uint8 or uint16"):
        restore_photo(image, Brighten(), landmark_file(tmp_path / "f.json", FACES))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"faces": [0]}, r"^faces \[0\]: give"),
        ({"faces": None}, "^faces None: give"),
        ({"min_face": "x"}, "^min-face 'x'"),
        ({"batch": 0}, "^batch 0: a whole"),
        ({"batch": 1.5}, "^batch 1.5: a whole"),
        ({"max_faces": "x"}, "^max-faces x"),
        ({"grain": None}, "^grain 'None'"),
        ({"grain": "0.5"}, "^grain '0.5': pass a number"),
        ({"min_face": 10**400}, "^min-face '1000"),
        ({"upscale": "2"}, "^upscale '2'"),
        ({"blend": "x"}, "^--blend 'x'"),
    ],
)
def test_options_that_are_out_of_range_are_named(options: dict, words: str) -> None:
    with pytest.raises(GCFSRError, match=words):
        PhotoOptions(**options)


@pytest.mark.parametrize("faces", ["3", "-1", "first", "", "1,,2", "0.5"])
def test_faces_that_do_not_exist(faces: str, tmp_path: Path) -> None:
    with pytest.raises(GCFSRError, match=f"faces {faces}: "):
        restore_photo(
            gray(),
            Brighten(),
            landmark_file(tmp_path / "f.json", FACES),
            PhotoOptions(match_color=False, agreement=0, faces=faces),
        )


def test_no_face_is_not_an_error() -> None:
    assert choose([], "0", (10, 10)) == []


@pytest.mark.parametrize("upscale", [1, 2])
def test_overlapping_faces_are_corrected_once(upscale: int, tmp_path: Path) -> None:
    """No pixel gets more than one face's correction, at any batch size."""
    detector = landmark_file(tmp_path / "f.json", [(20, 30, 150), (90, 60, 140), (60, 110, 60)])
    results = [
        restore_photo(
            gray(), Brighten(), detector, PhotoOptions(match_color=False, agreement=0, batch=batch, upscale=upscale)
        ).image
        for batch in (1, 3)
    ]
    np.testing.assert_array_equal(*results)
    assert results[0].max() <= 255 // 3 + 255 // 5 + 2  # rounding, once a face
    assert results[0].min() == 255 // 3


def test_a_face_that_is_not_confirmed_is_left_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [Detection(np.array([20.0, 20, 120, 120]), TEMPLATE * 100 + 20, 0.9, confirmed=False)]
    monkeypatch.setattr("gcfsr_inference.photo.photograph.find", lambda *_: seen)
    result = restore_photo(gray(), Brighten(), OneFace())
    assert result.faces[0].status.startswith("left unchanged: once aligned")
    np.testing.assert_array_equal(result.image, gray())


def test_a_face_that_cannot_be_aligned_is_left_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    good = (TEMPLATE * 100 + [20, 30]).tolist()
    path.write_text(json.dumps([good, [[5, 5]] * 5, (TEMPLATE * [-80, 80] + [500, 90]).tolist()]))
    seen: list[Face] = []
    restorer = Brighten()
    result = restore_photo(
        gray(), restorer, LandmarkFile(path), PhotoOptions(match_color=False, agreement=0, batch=3), seen.append
    )
    assert [face.status.split(":")[0] for face in result.faces] == ["restored", "left unchanged", "left unchanged"]
    assert "coincide" in result.faces[1].status
    assert restorer.batches == [1]
    assert [face.number for face in seen] == [0, 1, 2]
    only_bad = restore_photo(
        gray(), Brighten(), LandmarkFile(path), PhotoOptions(match_color=False, agreement=0, faces="1")
    )
    np.testing.assert_array_equal(only_bad.image, gray())


def test_crops_pass_through_on_face_and_stay_by_option(tmp_path: Path) -> None:
    detector = landmark_file(tmp_path / "f.json", FACES)
    shapes = []
    result = restore_photo(gray(), Brighten(), detector, on_face=lambda face: shapes.append(face.crop.shape))
    assert shapes == [(64, 64, 3)] * 3
    assert all(face.crop is None and face.restored is None for face in result.faces)
    kept = restore_photo(gray(), Brighten(), detector, PhotoOptions(match_color=False, agreement=0, keep_crops=True))
    assert all((face.restored > face.crop).all() for face in kept.faces)


def test_matched_colours_undo_a_change_of_brightness(tmp_path: Path) -> None:
    detector = landmark_file(tmp_path / "f.json", FACES)
    result = restore_photo(gray(), Brighten(), detector, PhotoOptions())
    assert np.abs(result.image.astype(int) - gray()).max() <= 1


@pytest.mark.parametrize(("upscale", "background"), [(2, "none"), (1.5, "bicubic"), (2, "lanczos"), (0.5, "none")])
def test_an_enlarged_photograph(upscale: float, background: str, tmp_path: Path) -> None:
    """The faces land where they belong: at the same place as in the small result, enlarged."""
    detector = landmark_file(tmp_path / "f.json", FACES)
    options = PhotoOptions(match_color=False, agreement=0, upscale=upscale, background=background)
    result = restore_photo(gray(), Brighten(128), detector, options).image
    assert result.shape == (400 * upscale, 600 * upscale, 3)
    small = restore_photo(gray(), Brighten(128), detector, PhotoOptions(match_color=False, agreement=0)).image
    expected = cv2.resize(small, result.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    assert np.abs(result.astype(int) - expected).mean() < 0.3
    assert np.abs(result.astype(int) - expected).max() < 20


def test_thousands_of_detections(tmp_path: Path) -> None:
    """The largest are restored, the rest reported; memory does not grow with their number."""
    rng = np.random.default_rng(0)
    faces = [(float(x), float(y), 24.0 + n / 1000) for n, (x, y) in enumerate(rng.uniform(0, 550, (3000, 2)))]
    detector = landmark_file(tmp_path / "f.json", faces)
    restorer = Brighten(32)
    result = restore_photo(
        gray(600, 600), restorer, detector, PhotoOptions(match_color=False, agreement=0, max_faces=500, batch=8)
    )
    assert sum(face.status == "restored" for face in result.faces) == 500
    assert all(face.status == "restored" for face in result.faces[2500:])
    assert result.faces[0].status == "left unchanged: more than 500 faces"
    assert max(restorer.batches) == 8


class OneFace:
    """Says that a face of `side` pixels is in the middle, at every scale, and looks at every pixel."""

    confidence, searches_scales = 0.5, True

    def detect(self, image: np.ndarray) -> list[Detection]:
        assert image.dtype == np.uint8
        return []


def test_memory_is_the_image_and_one_batch(tmp_path: Path) -> None:
    """30 megapixels, 12 faces of up to 2,500 pixels: the peak stays at the result, one batch and a band."""
    image = np.zeros((5000, 6000, 3), np.uint8)
    faces = [(100.0 * n, 50.0 * n, 300.0 + 200 * n) for n in range(12)]
    detector = landmark_file(tmp_path / "f.json", faces)
    tracemalloc.start()
    result = restore_photo(image, Brighten(256), detector, PhotoOptions(match_color=False, agreement=0, batch=4))
    restore_photo(image, Brighten(256), OneFace())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert all(face.status == "restored" for face in result.faces)
    assert peak < 2 * image.nbytes + 60e6


def test_real_photographs(shared: Path) -> None:
    """Every face in the file's name is found, aligned and changed; nothing outside their regions is."""
    detector = build_detector("yunet", shared / "weights")
    for path in sorted(shared.glob("photos/*face*")):
        image = cv2.imread(str(path))
        result = restore_photo(image, Brighten(128), detector, PhotoOptions(match_color=False, agreement=0))
        count = int(path.stem.split("face")[0][-1])
        assert [face.status for face in result.faces] == ["restored"] * count, path.name
        far = np.ones(image.shape[:2], bool)
        for face in result.faces:
            left, top, right, bottom = face.box
            pad = 0.9 * max(right - left, bottom - top)
            far[max(0, int(top - pad)) : int(bottom + pad), max(0, int(left - pad)) : int(right + pad)] = False
        np.testing.assert_array_equal(result.image[far], image[far])


class Mapped(Brighten):
    """Keeps the map of strengths of each face."""

    def __init__(self) -> None:
        super().__init__()
        self.maps: list[np.ndarray | None] = []

    def restore_faces(self, faces: Sequence[FaceInput]) -> list[FaceResult]:
        self.maps += [face.strengths for face in faces]
        return super().restore_faces(faces)


def test_a_map_of_strengths_reaches_each_face_where_it_lies(tmp_path: Path) -> None:
    """Left of x = 300 it is 0.2, right of it 0.8; a face's map goes from one to the other where the face crosses it."""
    strengths, restorer = np.full((400, 600), 0.2, np.float32), Mapped()
    strengths[:, 300:] = 0.8
    restore_photo(gray(), restorer, landmark_file(tmp_path / "f.json", FACES), strengths=strengths)
    assert [part.shape for part in restorer.maps] == [(64, 64)] * 3
    left, middle, right = restorer.maps
    assert (left.min(), left.max()) == pytest.approx((0.2, 0.2))
    assert (right.min(), right.max()) == pytest.approx((0.8, 0.8))
    assert (middle.min(), middle.max()) == pytest.approx((0.2, 0.8))  # bicubic would overshoot
    np.testing.assert_allclose(middle.mean(axis=0)[[0, 29, 35, 63]], [0.2, 0.2, 0.8, 0.8], atol=1e-3)
    with pytest.raises(GCFSRError, match="a map of"):
        restore_photo(gray(), restorer, landmark_file(tmp_path / "f.json", FACES), strengths=strengths[:9])


@pytest.mark.parametrize("kind", [np.ndarray.tolist, torch.from_numpy])
def test_a_map_of_strengths_may_be_lists_or_a_tensor(tmp_path: Path, kind) -> None:
    strengths, detector = np.linspace(0, 1, 240_000).reshape(400, 600), landmark_file(tmp_path / "f.json", FACES)
    of_array, of_other = Mapped(), Mapped()
    restore_photo(gray(), of_array, detector, strengths=strengths)
    restore_photo(gray(), of_other, detector, strengths=kind(strengths))
    np.testing.assert_array_equal(of_other.maps, of_array.maps)


@pytest.mark.parametrize(
    ("strengths", "words"),
    [
        ([[0.1], [0.1, 0.2]], "pass numbers"),
        (np.full((400, 600), 1.5), r"must be in \[0, 1\]"),
        (torch.zeros(400, 600, requires_grad=True), "pass numbers"),
        (0.5, r"a map of \(\)"),
    ],
)
def test_strengths_that_are_no_map_are_named(tmp_path: Path, strengths, words: str) -> None:
    with pytest.raises(GCFSRError, match=words):
        restore_photo(gray(), Brighten(), landmark_file(tmp_path / "f.json", FACES), strengths=strengths)


def test_a_map_of_strengths_is_never_ignored(tmp_path: Path, tiny: Path, tiny_blind: Path) -> None:
    strengths, detector = np.full((400, 600), 0.5), landmark_file(tmp_path / "f.json", FACES)
    with pytest.raises(GCFSRError, match="pass s or factor, not both"):
        restore_photo(gray(), FaceRunner(Restorer.load(tiny), Settings(factor=8)), detector, strengths=strengths)
    with pytest.raises(GCFSRError, match="this checkpoint is blind"):
        restore_photo(gray(), Restorer.load(tiny_blind), detector, strengths=strengths)
