"""Both degradations against the same steps written with BasicSR's, OpenCV's and torchvision's functions."""

from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import functional as tv

from gcfsr_datasets.degradation import (
    apply_blind,
    color,
    degrade_batch,
    degrade_blind,
    degrade_multi_factor,
    degrade_planes,
    draw_factor,
    small_size,
)
from gcfsr_datasets.degradation.blind_parameters import BlindDraw, BlindRanges, draw_blind
from gcfsr_datasets.degradation.blur import blur_and_shrink, gaussian_kernel
from gcfsr_datasets.degradation.placement import PlacementRanges, misplace
from gcfsr_datasets.face_dataset import to_planes


@pytest.mark.parametrize("factor", [1, 2, 4, 16, 32])
def test_multi_factor_equals_imresize(matlab: ModuleType, gt: np.ndarray, factor: int):
    expected = matlab.imresize(matlab.imresize(gt, 1 / factor), factor)
    assert np.abs(degrade_multi_factor(gt, factor) - expected).max() < 1e-6


def test_planes_are_the_same_degradation(face: np.ndarray, gt: np.ndarray):
    planes = to_planes(face)
    np.testing.assert_allclose(planes[::-1].transpose(1, 2, 0), gt * 2 - 1, atol=1e-6)
    for quantize, tolerance in ((False, 2e-6), (True, 3.2 / 255), ("enlarged", 2.1 / 255)):  # a level is 2 / 255
        expected = degrade_multi_factor(gt, 5.3, quantize) * 2 - 1
        difference = degrade_planes(planes, 5.3, quantize)[::-1].transpose(1, 2, 0) - expected
        assert np.abs(difference).max() < tolerance
        assert np.abs(difference).mean() < 1e-4


def test_a_batch_on_a_device_is_the_same_degradation():
    gt = torch.rand(4, 3, 40, 48) * 2 - 1
    factors = torch.tensor([2.0, 5.0, 2.0, 7.3])
    for quantize in (False, True, "enlarged"):
        apart = [degrade_planes(planes.numpy(), float(f), quantize) for planes, f in zip(gt, factors, strict=True)]
        difference = np.abs(degrade_batch(gt, factors, quantize).numpy() - np.stack(apart))
        assert np.median(difference) < 1e-6
        assert difference.max() < (3.2 / 255 if quantize else 2e-6)


def test_quantized_input_is_that_of_a_file(matlab: ModuleType, gt: np.ndarray):
    stored = np.clip(np.round(matlab.imresize(gt, 1 / 8) * 255), 0, 255).astype(np.uint8)
    expected = matlab.imresize(stored.astype(np.float32) / 255, 8)
    assert np.abs(degrade_multi_factor(gt, 8, quantize=True) - expected).max() < 1e-6


def test_the_released_code_rounds_the_enlarged_image(matlab: ModuleType, face: np.ndarray, gt: np.ndarray):
    enlarged = matlab.imresize(matlab.imresize(gt, 1 / 8), 8)
    expected = np.clip(np.round(enlarged * 255), 0, 255).astype(np.uint8)
    assert np.abs(degrade_multi_factor(gt, 8, quantize="enlarged") * 255 - expected).max() < 1e-3
    planes = degrade_planes(to_planes(face), 8, quantize="enlarged")[::-1].transpose(1, 2, 0)
    levels = (planes + 1) * 127.5
    assert np.abs(levels - np.rint(levels)).max() < 1e-3
    assert np.abs(levels - expected).max() <= 1.001  # a level apart where rounding falls the other way
    assert (np.abs(levels - expected) > 0.5).mean() < 1e-3


@given(st.integers(32, 1024), st.floats(1, 30), st.floats(0, 30), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_drawn_factors_are_exact_and_in_range(size: int, lowest: float, width: float, seed: int):
    largest = min(lowest + width, size)
    factor = draw_factor(np.random.default_rng(seed), size, lowest, largest)
    assert size / factor == pytest.approx(small_size(size, factor))
    if int(size / lowest) > size / largest:  # the range holds a ratio of whole pixels
        assert lowest - 1e-6 <= factor <= largest + 1e-6


def test_factors_cover_their_range():
    rng = np.random.default_rng(0)
    drawn = np.array([draw_factor(rng, 1024, 4, 64) for _ in range(2000)])
    assert np.histogram(drawn, 6, (4, 64))[0] == pytest.approx(np.full(6, 2000 / 6), rel=0.3)
    octaves = np.log2([draw_factor(rng, 1024, 4, 64, log=True) for _ in range(2000)])
    assert np.histogram(octaves, 4, (2, 6))[0] == pytest.approx(np.full(4, 500), rel=0.2)


@pytest.mark.parametrize(("sigma", "angle"), [((3.0, 3.0), 0.0), ((1.5, 7.0), 0.7), ((0.1, 9.0), -2.0)])
def test_kernels_equal_basicsr(degradations: ModuleType, sigma: tuple[float, float], angle: float):
    expected = degradations.bivariate_Gaussian(41, sigma[0], sigma[1], angle, isotropic=sigma[0] == sigma[1])
    np.testing.assert_allclose(gaussian_kernel(41, sigma, angle), expected, atol=1e-9)


@pytest.mark.parametrize("size", [(128, 128), (160, 160), (57, 43), (16, 16), (1, 3)])
@pytest.mark.parametrize(("sigma", "angle"), [((4.0, 4.0), 0.0), ((1.0, 10.0), 0.7), ((0.1, 0.1), 0.0)])
def test_blur_and_shrink_equals_opencv(gt: np.ndarray, size: tuple[int, int], sigma: tuple[float, float], angle: float):
    kernel = gaussian_kernel(41, sigma, angle)
    expected = cv2.resize(cv2.filter2D(gt, -1, kernel), size[::-1], interpolation=cv2.INTER_LINEAR)
    assert np.abs(blur_and_shrink(gt, kernel, size) - expected).max() < 0.1 / 255


def test_blind_equals_the_steps_of_basicsr(degradations: ModuleType, gt: np.ndarray):
    draw = BlindDraw((2.0, 5.0), 0.4, 2.5, noise=10 / 255, quality=70)
    result = apply_blind(gt, draw, np.random.default_rng(3))

    kernel = degradations.bivariate_Gaussian(41, *draw.sigma, draw.angle, isotropic=False)
    image = cv2.resize(cv2.filter2D(gt, -1, kernel), (51, 51), interpolation=cv2.INTER_LINEAR)
    noise = np.random.default_rng(3).standard_normal(image.shape, np.float32)
    image = np.clip(image + noise * 10 / 255, 0, 1)
    image = degradations.add_jpg_compression(image, 70)
    expected = np.round(cv2.resize(image, (128, 128), interpolation=cv2.INTER_LINEAR) * 255) / 255
    # a pixel on the edge between two levels may round the other way before JPEG
    assert np.abs(result - expected).mean() < 0.5 / 255
    assert np.abs(result - expected).max() < 6 / 255


@given(st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_blind_results_are_8_bit_images_and_repeat(seed: int):
    gt = np.random.default_rng(0).random((40, 40, 3), np.float32)
    ranges = BlindRanges(color_jitter_prob=0.5, color_jitter_pt_prob=0.5, gray_prob=0.5)
    first, again = (degrade_blind(gt, np.random.default_rng(seed), ranges) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == gt.shape
    assert first.dtype == np.float32
    np.testing.assert_allclose(np.rint(first * 255), first * 255, atol=1e-3)
    assert first.min() >= 0
    assert first.max() <= 1


def test_draws_follow_their_ranges():
    rng = np.random.default_rng(0)
    draws = [draw_blind(rng, BlindRanges()) for _ in range(3000)]
    assert np.mean([draw.sigma[0] == draw.sigma[1] for draw in draws]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([draw.shift is not None for draw in draws]) == pytest.approx(0.3, abs=0.04)
    assert np.mean([len(draw.jitter) == 4 for draw in draws]) == pytest.approx(0.3, abs=0.04)
    assert np.mean([draw.gray for draw in draws]) == pytest.approx(0.01, abs=0.01)
    for values, low, high in (
        ([draw.sigma[1] for draw in draws], 0.1, 10),
        ([draw.downsample for draw in draws], 0.8, 8),
        ([draw.noise * 255 for draw in draws], 0, 20),
        ([draw.quality for draw in draws], 60, 100),
    ):
        assert low <= min(values) < low + 0.1 * (high - low)
        assert high >= max(values) > high - 0.1 * (high - low)
        assert np.mean(values) == pytest.approx((low + high) / 2, rel=0.05)


def test_steps_can_be_left_out(gt: np.ndarray):
    ranges = BlindRanges(noise_range=None, jpeg_range=None, color_jitter_prob=None, color_jitter_pt_prob=0, gray_prob=1)
    draw = draw_blind(np.random.default_rng(0), ranges)
    assert draw.noise is draw.quality is draw.shift is None
    result = apply_blind(gt, draw, np.random.default_rng(0))
    assert np.ptp(result, axis=2).max() < 1e-6  # gray


@pytest.mark.parametrize("value", [0.3, 1.0, 1.4])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_jitter_equals_torchvision(gt: np.ndarray, name: str, value: float):
    rgb = torch.from_numpy(gt[..., ::-1].transpose(2, 0, 1).copy())
    expected = getattr(tv, f"adjust_{name}")(rgb, value).numpy().transpose(1, 2, 0)[..., ::-1]
    # torchvision's weights of luminance are rounded to four digits
    np.testing.assert_allclose(getattr(color, f"adjust_{name}")(gt, value), expected, atol=2e-4)


@pytest.mark.parametrize("turn", [-0.1, 0.0, 0.07, 0.5])
def test_hue_equals_torchvision(gt: np.ndarray, turn: float):
    rgb = torch.from_numpy(gt[..., ::-1].transpose(2, 0, 1).copy())
    expected = tv.adjust_hue(rgb, turn).numpy().transpose(1, 2, 0)[..., ::-1]
    np.testing.assert_allclose(color.adjust_hue(gt, turn), expected, atol=1e-4)


def test_misplaced_faces_are_where_they_were_sent(gt: np.ndarray):
    rng, face = np.random.default_rng(0), (255 * gt).astype(np.uint8)
    turned = misplace(face, rng, PlacementRanges(rotate=(90, 90)))
    np.testing.assert_array_equal(turned, np.rot90(face))
    moved = misplace(face, rng, PlacementRanges(shift=(0.25, 0.25)))
    by = face.shape[0] // 4
    np.testing.assert_array_equal(moved[by:, by:], face[:-by, :-by])
    smaller = PlacementRanges(scale=(0.5, 0.5))
    half = misplace(face, rng, smaller)
    np.testing.assert_array_equal(half, np.rot90(misplace(np.rot90(face, 2), rng, smaller), 2))
    assert half[by:-by, by:-by].mean() == pytest.approx(face.mean(), abs=2)
    np.testing.assert_array_equal(misplace(face, rng, PlacementRanges(rotate=(90, 90), prob=0)), face)


def test_tones(gt: np.ndarray):
    rng = np.random.default_rng(0)
    darker = color.augment_tone(gt, rng, color.ToneRanges(gamma=(2, 2)))
    np.testing.assert_allclose(darker, gt**2, atol=1e-6)
    warmer = color.augment_tone(gt, rng, color.ToneRanges(temperature=(0.1, 0.1)))
    np.testing.assert_allclose(warmer, np.clip(gt * np.float32([0.9, 1, 1.1]), 0, 1), atol=1e-6)
    np.testing.assert_array_equal(color.augment_tone(gt, rng, color.ToneRanges(gamma=(2, 2), prob=0)), gt)
