"""Colours, tone and grain that a restored face takes over from its input."""

import cv2
import numpy as np
import pytest

from gcfsr_inference.photo.tone import grain_level, lost_grain, match_color, tone_curve


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """scikit-image's astronaut (public domain), her face in colour: (128, 128, 3) BGR."""
    image = np.ascontiguousarray(pytest.importorskip("skimage.data").astronaut()[20:180, 140:300, ::-1])
    return cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA)


def sepia(image: np.ndarray) -> np.ndarray:
    """The usual toning: each channel a power of luma."""
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None] / 255
    return np.rint(np.concatenate([0.8 * gray**1.5, 0.9 * gray**1.1, gray**0.8], axis=2) * 255).astype(np.uint8)


def test_matched_colours_are_the_inputs(face: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    restored = np.clip(face.astype(int) * 0.7 + 30 + rng.integers(-20, 20, face.shape), 0, 255).astype(np.uint8)
    matched = match_color(restored, face)
    blurred = [cv2.GaussianBlur(x.astype(np.float32), (0, 0), 16) for x in (matched, restored, face)]
    assert np.abs(blurred[0] - blurred[2]).mean() < 0.1 * np.abs(blurred[1] - blurred[2]).mean()
    detail = [x - cv2.GaussianBlur(x.astype(np.float32), (0, 0), 2) for x in (matched, restored)]
    assert np.corrcoef(detail[0].ravel(), detail[1].ravel())[0, 1] > 0.98


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_monochrome_face_stays_monochrome(face: np.ndarray, dtype: type) -> None:
    gray = cv2.cvtColor(face, cv2.COLOR_BGR2GRAY)[..., None].repeat(3, axis=2)
    scale = 1 if dtype == np.uint8 else 257
    matched = match_color(face.astype(dtype) * scale, gray.astype(dtype) * scale)
    assert np.ptp(matched.astype(int), axis=2).max() == 0
    assert matched.std() > 20 * scale


@pytest.mark.parametrize("worn", [False, True])
def test_a_toned_face_keeps_its_tone(face: np.ndarray, worn: bool) -> None:
    """A result in colour comes back in sepia: each channel as the toning makes it of the result's own luma."""
    given = sepia(face)
    if worn:
        grain = np.random.default_rng(0).normal(0, 6, (128, 128, 1))
        noisy = np.clip(given + grain, 0, 255).astype(np.uint8)
        given = cv2.imdecode(cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 75])[1], cv2.IMREAD_COLOR)
    matched = match_color(face, given)
    luma = cv2.cvtColor(matched, cv2.COLOR_BGR2GRAY)
    for channel in range(3):  # one value of luma has one colour
        spread = [np.ptp(matched[..., channel][luma == level]) for level in np.unique(luma)]
        assert max(spread) <= 6
    assert np.abs(matched.mean((0, 1)) - given.mean((0, 1))).max() < 2


def test_a_face_in_colour_has_no_tone(face: np.ndarray) -> None:
    assert tone_curve(face) is None
    assert tone_curve(sepia(face)) is not None


@pytest.mark.parametrize("sigma", [3.0, 8.0, 15.0])
def test_the_level_of_grain_is_its_standard_deviation(face: np.ndarray, sigma: float) -> None:
    smooth = cv2.GaussianBlur(face, (0, 0), 2)
    grain = np.random.default_rng(1).normal(0, sigma, (128, 128, 1))
    noisy = np.clip(smooth + grain, 0, 255).round().astype(np.uint8)
    assert grain_level(noisy) * 255 == pytest.approx(sigma, rel=0.2)
    assert lost_grain(noisy, smooth) > 0.9
    assert lost_grain(noisy, noisy) == lost_grain(smooth, noisy) == 0
