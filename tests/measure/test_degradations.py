"""What is left of noise, blocking and blur: known amounts are found, and each measure sees its own degradation most."""

import cv2
import numpy as np
import pytest

from gcfsr_measure.degradations import (
    ROUNDING,
    blocking,
    edge_sharpness,
    flat_area,
    residual_noise,
    strong_edges,
)

SIDE = 128


def gray(values: np.ndarray) -> np.ndarray:
    return np.repeat(np.clip(values, 0, 255).round().astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """A bright disc on a slope: flat inside, edges around."""
    y, x = np.mgrid[:SIDE, :SIDE]
    disc = np.hypot(y - SIDE / 2, x - SIDE / 2) < 40
    return gray(cv2.GaussianBlur(np.where(disc, 170.0, 60.0 + 0.2 * x), (0, 0), 1.5))


def test_noise_is_its_standard_deviation(scene):
    flat = flat_area(scene)
    noise = np.random.default_rng(0).normal(size=scene.shape[:2])
    assert residual_noise(scene, scene, flat) == 0
    for sigma in (3, 6, 12):
        noisy = gray(scene[..., 0] + sigma * noise)
        assert residual_noise(noisy, scene, flat) == pytest.approx(
            sigma * 219 / 255, rel=0.1
        )  # Y has 219 steps for 255


def test_blocks_by_hand():
    steps = np.zeros((16, 16))
    steps[:, 8:] = 10  # one border of blocks with a step of 10, none elsewhere
    kink = 10 * 219 / 255  # half of it beside the border; half of the borders, the horizontal ones, are level
    found = blocking(gray(100 + steps))
    assert found == pytest.approx((kink / 2 + ROUNDING) / (kink / 24 + ROUNDING), rel=0.01)
    shifted = np.zeros((16, 16))
    shifted[:, 5:] = 10
    assert blocking(gray(100 + shifted)) < 1
    assert blocking(gray(np.full((8, 8), 3.0))) == 1


def test_blocking_is_free_of_contrast(scene):
    data = cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, 10])[1]
    blocky = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., 0].astype(float)
    strong, weak = blocking(gray(blocky)), blocking(gray(40 + blocky / 2))
    assert weak == pytest.approx(strong, rel=0.15)
    assert min(strong, weak) > 1.3 * blocking(scene)


def test_compression_raises_blocking_as_quality_falls(scene):
    noise = np.random.default_rng(0).normal(size=scene.shape[:2])
    image = gray(scene[..., 0] + 5 * cv2.GaussianBlur(noise, (0, 0), 2) * 8)
    found = []
    for quality in (95, 40, 10):
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        found.append(blocking(cv2.imdecode(data, cv2.IMREAD_COLOR)))
    assert found[0] < found[1] < found[2]


def test_blur_lowers_the_gradient_at_edges_and_noise_does_not(scene):
    edges = strong_edges(scene)
    assert edges.mean() == pytest.approx(0.1, abs=0.02)
    sharp = edge_sharpness(scene, scene, edges)
    blurred = edge_sharpness(cv2.GaussianBlur(scene, (0, 0), 2), scene, edges)
    noise = np.random.default_rng(0).normal(size=scene.shape[:2])
    noisy = edge_sharpness(gray(scene[..., 0] + 6 * noise), scene, edges)
    assert blurred < 0.85 * sharp
    assert abs(noisy - sharp) < 0.1 * (sharp - blurred)


def test_the_flat_area_is_the_cheek_not_the_edge(scene):
    flat = flat_area(scene)
    assert flat.any()
    assert not (flat & strong_edges(scene)).any()
    assert flat_area(np.zeros_like(scene)).any()  # a black image has some, too
