"""Metrics of pixels against scikit-image, BasicSR and closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcfsr_measure import pixels


def image(seed: int, size: tuple[int, int] = (48, 40)) -> np.ndarray:
    """A random image with structure: noise smoothed a little."""
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.float32)
    return ((noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1)) / 3).astype(np.uint8)


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    data = pytest.importorskip("skimage.data")
    return data.astronaut()[..., ::-1].copy()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(11, 40), st.integers(11, 40))
def test_psnr_and_ssim_equal_scikit_image(seed: int, height: int, width: int) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    a, b = image(seed, (height, width)), image(seed + 1, (height, width))
    assert pixels.psnr(a, b) == pytest.approx(metrics.peak_signal_noise_ratio(b, a, data_range=255), abs=1e-9)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    wanted = metrics.structural_similarity(a, b, channel_axis=2, **options)
    assert pixels.ssim(a, b) == pytest.approx(wanted, abs=1e-6)
    wanted = metrics.structural_similarity(pixels.luma(a)[..., 0], pixels.luma(b)[..., 0], **options)
    assert pixels.ssim(pixels.luma(a), pixels.luma(b)) == pytest.approx(wanted, abs=1e-6)


def test_psnr_and_ssim_equal_basicsr() -> None:
    metrics = pytest.importorskip("basicsr.metrics")
    a, b = image(1), image(2)
    for y in (False, True):
        x, z = (pixels.luma(a), pixels.luma(b)) if y else (a, b)
        assert pixels.psnr(x, z) == pytest.approx(metrics.calculate_psnr(a, b, 0, test_y_channel=y), abs=1e-4)
        assert pixels.ssim(x, z) == pytest.approx(metrics.calculate_ssim(a, b, 0, test_y_channel=y), abs=1e-5)


def test_equal_images() -> None:
    a = image(3)
    assert pixels.psnr(a, a) == math.inf
    assert pixels.ssim(a, a) == pytest.approx(1)
    assert pixels.ssim(a[:10], a[:10]) is None


def test_niqe_is_basicsrs_or_not_defined(astronaut: np.ndarray) -> None:
    module = pytest.importorskip("basicsr.metrics.niqe")
    face = astronaut[:256, 96:352]
    assert pixels.niqe(face) == pytest.approx(module.calculate_niqe(face, 0), abs=1e-12)
    assert pixels.niqe(astronaut) == pytest.approx(3.6, abs=0.6)  # a sharp photograph; noise and blur are far above
    assert pixels.niqe(face[:128, :128]) is None
    assert pixels.niqe(face[:191, :191]) is None
    assert pixels.niqe(face[:192, :96]) is not None


@pytest.mark.filterwarnings("error")
def test_niqe_of_a_flat_image_is_not_defined(astronaut: np.ndarray) -> None:
    """A collapsed network gives such images: BasicSR's NIQE fails on them."""
    pytest.importorskip("basicsr.metrics.niqe")
    assert pixels.niqe(np.full((256, 256, 3), 90, np.uint8)) is None
    half = astronaut[:256, :256].copy()
    half[:96] = 0
    assert pixels.niqe(half) is not None


def test_consistency_of_the_ground_truth_is_limited_by_rounding(astronaut: np.ndarray) -> None:
    from gcfsr_inference.figures.common import make_low

    face = astronaut[:256, 96:352]
    low = make_low(face, 8)
    assert low.shape == (32, 32, 3)
    assert pixels.consistency(face, low) > 57  # uniform rounding error: 10 log10(255^2 * 12) = 58.9 dB
    assert pixels.consistency(255 - face, low) < 20


def test_sharpness_match_is_the_share_of_energy_kept(astronaut: np.ndarray) -> None:
    import cv2

    face = astronaut[:256, 96:352]
    y = pixels.luma(face)[..., 0]
    padded = np.pad(y, 1, "reflect")
    laplacian = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * y
    assert pixels.sharpness(face) == pytest.approx(laplacian.var(), rel=1e-9)
    blurred = cv2.GaussianBlur(face, (0, 0), 1)
    assert pixels.sharpness_match(blurred, face) == pytest.approx(pixels.sharpness(blurred) / pixels.sharpness(face))
    assert pixels.sharpness_match(face, blurred) == pixels.sharpness_match(blurred, face) < 0.5
    assert pixels.sharpness_match(face * 0, face * 0) is None
