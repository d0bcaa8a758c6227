"""What is left of noise, blocking and blur: known amounts are found, and each measure sees its own degradation most."""

import cv2
import numpy as np
import pytest

from gcfsr_measure.degradations import blocking, edge_sharpness, flat_area, residual_noise, strong_edges

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
    assert residual_noise(scene, flat) < 0.5
    for sigma in (3, 6, 12):
        noisy = gray(scene[..., 0] + sigma * noise)
        assert residual_noise(noisy, flat) == pytest.approx(sigma * 219 / 255, rel=0.1)  # Y has 219 steps for 255


def test_blocks_by_hand():
    steps = np.zeros((16, 16))
    steps[:, 8:] = 10  # one border of blocks with a step of 10, none elsewhere
    found = blocking(gray(100 + steps))
    assert found == pytest.approx((10 * 219 / 255) ** 2 / 2, rel=0.01)  # half of the border pairs are level
    shifted = np.zeros((16, 16))
    shifted[:, 5:] = 10
    assert blocking(gray(100 + shifted)) < 0
    assert blocking(gray(np.full((8, 8), 3.0))) == 0


def test_compression_raises_blocking_as_quality_falls(scene):
    noise = np.random.default_rng(0).normal(size=scene.shape[:2])
    image = gray(scene[..., 0] + 5 * cv2.GaussianBlur(noise, (0, 0), 2) * 8)
    found = []
    for quality in (95, 40, 10):
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        found.append(blocking(cv2.imdecode(data, cv2.IMREAD_COLOR)))
    assert found[0] < found[1] < found[2]


def test_blur_lowers_the_gradient_at_edges_and_noise_hardly_changes_it(scene):
    edges = strong_edges(scene)
    assert edges.mean() == pytest.approx(0.1, abs=0.02)
    sharp = edge_sharpness(scene, edges)
    blurred = edge_sharpness(cv2.GaussianBlur(scene, (0, 0), 2), edges)
    noise = np.random.default_rng(0).normal(size=scene.shape[:2])
    noisy = edge_sharpness(gray(scene[..., 0] + 6 * noise), edges)
    assert blurred < 0.85 * sharp
    assert abs(noisy - sharp) < 0.3 * (sharp - blurred)


def test_the_flat_area_is_the_cheek_not_the_edge(scene):
    flat = flat_area(scene)
    assert flat.any()
    assert not (flat & strong_edges(scene)).any()
    assert flat_area(np.zeros_like(scene)).any()  # a black image has some, too
