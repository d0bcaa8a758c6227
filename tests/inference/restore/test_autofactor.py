"""The estimate of a face's factor from its pixels."""

import cv2
import numpy as np
import pytest

from gcfsr_arch import GCFSRError
from gcfsr_datasets.degradation.photograph import Photograph, Wear, apply_photograph
from gcfsr_datasets.resize import resize
from gcfsr_inference.restore.autofactor import effective_size, estimate_factor

FACTORS = (4, 8, 16, 32, 64)


def low(image: np.ndarray, factor: float) -> np.ndarray:
    """The face shrunk to round(256 / factor) pixels, uint8."""
    n = round(256 / factor)
    return np.clip(resize(image / 255.0, (n, n)) * 255, 0, 255).round().astype(np.uint8)


def enlarged(image: np.ndarray, side: int) -> np.ndarray:
    return np.clip(resize(image.astype(np.float64), (side, side)), 0, 255).round().astype(np.uint8)


def natural(seed: int) -> np.ndarray:
    """(256, 256) uint8 of a power law, made by numpy's FFT: no face, and not the module's own spectrum."""
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(256) * 256, np.fft.fftfreq(256) * 256))
    phase = np.exp(2j * np.pi * np.random.default_rng(seed).random((256, 256)))
    field = np.fft.ifft2(phase / np.maximum(k, 2) ** 1.5).real
    return np.clip(field / field.std() * 50 + 128, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("factor", FACTORS)
def test_within_an_octave_on_a_face_and_on_noise_like_one(astronaut, factor):
    for image in (astronaut, np.ascontiguousarray(astronaut[:, ::-1]), natural(0), natural(1)):
        estimate = estimate_factor(enlarged(low(image, factor), 256))
        assert factor / 2 <= estimate <= factor * 2


@pytest.mark.parametrize("factor", FACTORS)
def test_bilinear_enlargement_is_known_too(astronaut, factor):
    image = cv2.resize(low(astronaut, factor), (256, 256), interpolation=cv2.INTER_LINEAR)
    assert factor / 2 <= estimate_factor(image) <= factor * 2


WORN = Wear(noise=6 / 255, quality=60)
GRAINY = Wear(noise=10 / 255, gray_noise=True)


@pytest.mark.parametrize("wear", [Wear(), WORN, GRAINY], ids=["clean", "worn", "grainy"])
@pytest.mark.parametrize("enlarge", [1, 99], ids=["small", "enlarged again"])
@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_sees_through_grain_and_jpeg(astronaut, factor, enlarge, wear):
    """A face in a photograph that was reduced, worn, possibly enlarged to its old size, and aligned."""
    for side in (128, 256):
        face = np.clip(resize(astronaut / 255, (side, side)), 0, 1).astype(np.float32)
        draw = Photograph(7.0, (0.3, 0.6), "area", "bicubic", enlarge, wear)
        aligned = apply_photograph(face, factor, draw, np.random.default_rng(0))
        assert factor / 2 <= estimate_factor((aligned * 255).round().astype(np.uint8), side) <= factor * 2


def test_no_image_has_more_pixels_than_it_holds():
    noise = np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)
    assert effective_size(noise) <= 20
    assert estimate_factor(noise, 128) >= 6.4


def test_a_sharp_image_has_a_factor_near_one(astronaut):
    assert estimate_factor(astronaut) < 2


@pytest.mark.parametrize("factor", [4, 16, 64])
def test_the_stored_size_plays_no_part(astronaut, factor):
    small = low(astronaut, factor)
    sizes = {side: effective_size(enlarged(small, side)) for side in (len(small), 200, 256, 512)}
    assert max(sizes.values()) <= 1.5 * min(sizes.values()), sizes


def test_kind_and_target_size(astronaut):
    image = enlarged(low(astronaut, 8), 256)
    size = effective_size(image)
    for other in (image.astype(np.uint16) * 257, image / 255.0, np.dstack([image, image[..., :1]])):
        assert effective_size(other) == size
    assert 0.7 < effective_size(image[..., 1]) / size < 1.5
    assert estimate_factor(image, 128) == pytest.approx(estimate_factor(image, 1024) / 8)


def test_flat_images_get_some_answer():
    for value in (0, 255):
        assert 1 <= estimate_factor(np.full((64, 64, 3), value, np.uint8)) <= 128


@pytest.mark.parametrize("image", [np.zeros((0, 5), np.uint8), np.zeros((5, 5), bool), np.zeros(5, np.uint8), None])
def test_files_that_are_not_images_are_refused(image):
    with pytest.raises(GCFSRError, match="image of shape"):
        estimate_factor(image)
