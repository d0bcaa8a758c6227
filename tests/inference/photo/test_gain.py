"""The rule by which a restored face is pasted or left, on real faces."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from gcfsr_datasets.degradation.photograph import Photograph, Wear, apply_photograph
from gcfsr_datasets.resize import resize
from gcfsr_inference import Restorer
from gcfsr_inference.photo.gain import reason_to_leave, share_to_keep
from gcfsr_inference.photo.paste import TEMPLATE
from gcfsr_inference.photo.photograph import PhotoOptions, restore_photo
from gcfsr_inference.photo.tone import match_color
from gcfsr_inference.restore.autofactor import estimate_factor
from gcfsr_inference.restore.consistency import consistency
from gcfsr_inference.restore.runner import FaceRunner, Settings
from gcfsr_inference.restore.weights import DEFAULT_NAME

FACES = sorted((Path(__file__).parents[2] / "data" / "faces").glob("*.jpg"))
SIDE = 128


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    """The network in the package."""
    return Restorer.load("gcfsr-nano")


def reduced(path: Path, factor: float, wear: Wear, side: int = SIDE) -> np.ndarray:
    """(side, side, 3) BGR uint8: a portrait as a photograph shows it, reduced, worn and aligned."""
    face = np.clip(resize(cv2.imread(str(path)) / 255, (side, side)), 0, 1).astype(np.float32)
    if factor > 1:
        draw = Photograph(5.0, (0.3, 0.6), "area", "bicubic", 1.0, wear)
        face = apply_photograph(face, factor, draw, np.random.default_rng(0))
    return (face * 255).round().astype(np.uint8)


def rule(restorer: Restorer, crop: np.ndarray, restored: np.ndarray) -> str | None:
    return reason_to_leave(crop, estimate_factor(crop, SIDE), restorer.min_factor, match_color(restored, crop))


@pytest.mark.parametrize("path", FACES, ids=lambda path: path.stem)
def test_a_sharp_face_is_left_and_a_small_one_restored(restorer: Restorer, path: Path) -> None:
    sharp = reduced(path, 1, Wear())
    assert "sharper" in (rule(restorer, sharp, restorer.restore(sharp)) or "")
    for factor in (4, 8):
        crop = reduced(path, factor, Wear())
        assert rule(restorer, crop, restorer.restore(crop, factor=factor)) is None


@pytest.mark.parametrize("path", FACES, ids=lambda path: path.stem)
def test_what_does_not_help_is_left(restorer: Restorer, path: Path) -> None:
    crop = reduced(path, 6, Wear(noise=4 / 255, quality=75))
    blurred = cv2.GaussianBlur(crop, (0, 0), 2)
    assert rule(restorer, crop, blurred) == "the result is not sharper"
    for other in FACES:
        if other != path:
            somebody_else = reduced(other, 1, Wear())
            assert "does not agree" in (rule(restorer, crop, somebody_else) or "")


def test_in_a_photograph(restorer: Restorer, tmp_path: Path) -> None:
    """A sharp face stays to the last bit, unless its dial is set by hand or `only_gains` is off."""
    image = cv2.imread(str(FACES[0]))
    five = np.array([[96, 119], [160, 120], [127, 157], [98, 186], [154, 186]])
    (tmp_path / "f.json").write_text(f"[{five.tolist()}]")
    from gcfsr_inference.photo.detect import LandmarkFile

    faces = LandmarkFile(tmp_path / "f.json")
    left = restore_photo(image, restorer, faces)
    assert left.faces[0].status == "left unchanged: already sharper than this network's output"
    np.testing.assert_array_equal(left.image, image)
    forced = restore_photo(image, restorer, faces, PhotoOptions(only_gains=False))
    by_hand = restore_photo(image, FaceRunner(restorer, Settings(factor=4)), faces)
    for done in (forced, by_hand):
        assert done.faces[0].status == "restored"
        assert not np.array_equal(done.image, image)
    assert TEMPLATE.shape == five.shape


@pytest.mark.parametrize("path", FACES, ids=lambda path: path.stem)
def test_a_large_clean_face_keeps_what_it_shows(path: Path) -> None:
    """Clean, it goes back to its input all the way; with noise on it, or small, half of the way."""
    restorer = Restorer.load(DEFAULT_NAME)
    for wear, share in ((Wear(), 1.0), (Wear(noise=10 / 255), 0.5)):
        crop = reduced(path, 3, wear, restorer.out_size)
        difference = consistency(restorer.restore(crop, factor=3), crop, 3).mean
        assert share_to_keep(3, difference) == share
        assert share_to_keep(6, difference) == 0.5


def test_a_large_clean_face_without_a_gain_is_left(restorer: Restorer) -> None:
    crop = reduced(FACES[0], 4, Wear())
    result = restorer.restore(crop, factor=4)
    assert "clean" in (reason_to_leave(crop, 1.8, 1.25, result, difference=1.0) or "")
    assert reason_to_leave(crop, 1.8, 1.25, result, difference=3.0) is None
    assert reason_to_leave(crop, 2.5, 1.25, result, difference=1.0) is None


@pytest.mark.parametrize("path", FACES, ids=lambda path: path.stem)
def test_a_grainy_face_is_restored(path: Path) -> None:
    """Gray grain counts as edges, which the result lacks: it was left, though the result is nearer to the face."""
    runner = FaceRunner(Restorer.load(DEFAULT_NAME))
    clean = reduced(path, 2, Wear(), runner.out_size)
    grain = np.random.default_rng(0).normal(0, 12, (128, 128, 1))
    crop = np.clip(clean + resize(grain, clean.shape[:2]), 0, 255).round().astype(np.uint8)
    given = runner.prepare(crop)._replace(factor=2.0, input_factor=2.0)
    ((output, record, _),) = runner.restore_faces([given])
    assert reason_to_leave(crop, 2, 1.25, output, noise=record.conditions["noise"]) is None
    assert reason_to_leave(crop, 2, 1.25, cv2.GaussianBlur(clean, (0, 0), 3), noise=1.0) == "the result is not sharper"
    face = reduced(path, 1, Wear(), runner.out_size)
    errors = [np.square(image.astype(float) - face).mean() for image in (output, crop)]
    assert errors[0] < 0.8 * errors[1]
