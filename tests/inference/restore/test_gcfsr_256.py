"""gcfsr-256 on portraits that no training has seen (works of the US Government, public domain)."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from gcfsr_datasets.degradation import degrade_multi_factor
from gcfsr_datasets.degradation.photograph import Photograph, Wear, apply_photograph
from gcfsr_datasets.resize import resize
from gcfsr_inference import Restorer
from gcfsr_inference.restore.consistency import agreed

FACES = sorted((Path(__file__).parents[2] / "data" / "faces").glob("*.jpg"))
SIDE = 256


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    """The default network."""
    loaded = Restorer.load()
    assert loaded.out_size == SIDE
    return loaded


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    """(256, 256, 3) BGR float32 in [0, 1]."""
    images = [cv2.imread(str(path)).astype(np.float32) / 255 for path in FACES]
    return [np.clip(resize(image, (SIDE, SIDE)), 0, 1) for image in images]


def to_uint8(image: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.square(a / 255 - b).mean()))


def fine_energy(image: np.ndarray) -> float:
    """Energy of the luminance above a blur of 1.5 pixels."""
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float64)
    return float(np.square(gray - cv2.GaussianBlur(gray, (0, 0), 1.5)).mean())


@pytest.mark.parametrize("factor", [4, 8, 16])
def test_clean_faces_come_closer_and_get_sharper(restorer: Restorer, faces: list[np.ndarray], factor: int) -> None:
    gains, energies = [], []
    for face in faces:
        given = to_uint8(degrade_multi_factor(face, factor, quantize=True))
        result = restorer.restore(given, factor=factor)
        gains.append(psnr(result, face) - psnr(given, face))
        energies.append(fine_energy(result) / fine_energy(given))
    assert np.mean(gains) > 0.3
    assert min(energies) > 1.3


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_worn_photographs_come_closer_and_keep_their_colour(
    restorer: Restorer, faces: list[np.ndarray], factor: int
) -> None:
    draw = Photograph(6.0, (0.3, 0.7), "area", "bicubic", 1.0, Wear(noise=6 / 255, quality=60))
    gains = []
    for face in faces:
        given = to_uint8(apply_photograph(face, factor, draw, np.random.default_rng(0)))
        result = restorer.restore(given, factor=factor)
        gains.append(psnr(result, face) - psnr(given, face))
        skin = np.s_[100:170, 90:166]
        assert np.abs(result[skin].mean((0, 1)) - given[skin].mean((0, 1))).max() < 3
    assert np.mean(gains) > 0.3


@pytest.mark.parametrize(("factor", "least"), [(2, 0.1), (3, -0.02)])  # at 3 the network's own result agrees already
def test_half_a_back_projection_brings_clean_photographs_closer(
    restorer: Restorer, faces: list[np.ndarray], factor: int, least: float
) -> None:
    draw = Photograph(6.0, (0.3, 0.7), "area", "bicubic", 1.0, Wear())
    for face in faces:
        given = to_uint8(apply_photograph(face, factor, draw, np.random.default_rng(0)))
        result = restorer.restore(given, factor=factor)
        assert psnr(agreed(result, given, factor, 0.5), face) - psnr(result, face) > least


def test_the_dial_adds_detail_and_keeps_the_input(restorer: Restorer, faces: list[np.ndarray]) -> None:
    for face in faces:
        given = to_uint8(degrade_multi_factor(face, 8, quantize=True))
        dials = np.geomspace(restorer.min_factor, restorer.max_factor, 9)
        results = restorer.restore_at(given, list(dials))
        energies = [fine_energy(result) for result in results]
        assert np.diff(energies).min() > -0.02 * energies[0]
        assert energies[-1] > 1.3 * energies[0]
        for result in results:  # no setting changes what the input shows
            small = [resize(image.astype(np.float32) / 255, (32, 32)) for image in (result, given)]
            assert -10 * np.log10(np.square(small[0] - small[1]).mean()) > 27
