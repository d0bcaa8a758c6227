"""The photograph degradation: registration, its parts against other implementations, and what a sample holds."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.registration import phase_cross_correlation

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.degradation import degrade_multi_factor, degrade_planes
from gcfsr_datasets.degradation.photograph import (
    RESAMPLING,
    Photograph,
    PhotographRanges,
    Wear,
    apply_photograph,
    degrade_photograph,
    draw_photograph,
    wear_out,
)
from gcfsr_datasets.photograph_dataset import PhotographDegradationDataset
from gcfsr_datasets.valid_area import ValidAreas


def test_exact_is_the_papers_reduction(gt: np.ndarray):
    made = apply_photograph(gt, 4, Photograph(), np.random.default_rng(0))
    np.testing.assert_allclose(made, degrade_multi_factor(gt, 4, quantize=True), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    angle=st.floats(-30, 30),
    phase=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)),
    factor=st.floats(1.1, 6),
    by=st.tuples(*[st.sampled_from(sorted(RESAMPLING))] * 2),
    enlarge=st.floats(1, 5),
)
def test_a_photograph_stays_on_its_face(
    gt: np.ndarray, angle: float, phase: tuple, factor: float, by: tuple, enlarge: float
):
    """Whatever angle, phase and sizes are drawn, the aligned crop does not move against the ground truth."""
    made = apply_photograph(gt, factor, Photograph(angle, phase, *by, enlarge), np.random.default_rng(0))
    inner = np.s_[16:-16, 16:-16, 1]
    smooth = cv2.GaussianBlur(gt, (0, 0), factor / 2)
    shift = phase_cross_correlation(smooth[inner], made[inner], upsample_factor=50, normalization=None)[0]
    assert np.abs(shift).max() < 0.1 + 0.05 * factor
    np.testing.assert_allclose(made, np.rint(made * 255) / 255, atol=1e-6)
    assert np.abs(made[inner].mean() - gt[inner].mean()) < 0.02  # colours and brightness as given


def test_a_photograph_at_factor_1_is_the_image(gt: np.ndarray):
    """Without a turn, at factor 1, and where the phase puts pixels on pixels, the photograph is the image itself."""
    made = apply_photograph(gt, 1.0, Photograph(0.0, (0.0, 0.0), "area"), np.random.default_rng(0))
    np.testing.assert_allclose(made, gt, atol=0.6 / 255)


def test_wear_is_blur_then_noise_then_jpeg(gt: np.ndarray):
    blurred = wear_out(gt, Wear(sigma=(1.2, 1.2)), np.random.default_rng(0))
    expected = cv2.GaussianBlur(gt, (13, 13), 1.2)
    np.testing.assert_allclose(blurred, expected, atol=0.6 / 255)
    flat = np.full((200, 200, 3), 0.5, np.float32)
    noisy = wear_out(flat, Wear(noise=10 / 255), np.random.default_rng(0))
    assert (noisy - flat).std() * 255 == pytest.approx(10, rel=0.02)
    gray = wear_out(flat, Wear(noise=10 / 255, gray_noise=True), np.random.default_rng(0))
    assert np.array_equal(gray[..., 0], gray[..., 2])
    encoded = cv2.imencode(".jpg", np.rint(gt * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    jpeg = wear_out(gt, Wear(quality=60), np.random.default_rng(0))
    np.testing.assert_array_equal(np.rint(jpeg * 255), cv2.imdecode(encoded, cv2.IMREAD_COLOR))


def test_draws_follow_their_probabilities_and_ranges():
    ranges = PhotographRanges(exact_prob=0.25, worn_prob=0.5, enlarge_prob=0.4, jpeg_prob=0.5)
    draws = [draw_photograph(np.random.default_rng(seed), ranges) for seed in range(4000)]
    share = lambda holds: np.mean([bool(holds(draw)) for draw in draws])  # noqa: E731
    assert share(lambda d: d.angle is None) == pytest.approx(0.25, abs=0.025)
    assert share(lambda d: d.wear != Wear()) == pytest.approx(0.5, abs=0.025)
    assert share(lambda d: d.enlarge > 1) == pytest.approx(0.75 * 0.4, abs=0.025)
    assert share(lambda d: d.wear.quality is not None) == pytest.approx(0.25, abs=0.025)
    assert {d.reduced_by for d in draws if d.angle is not None} == set(RESAMPLING)
    assert all(abs(d.angle or 0) <= 12 and (d.wear.quality is None or 50 <= d.wear.quality <= 95) for d in draws)


@pytest.mark.parametrize(
    "wrong", [{"rotate": (5, -5)}, {"exact_prob": 1.5}, {"jpeg_range": (50, 101)}, {"enlarge_range": (0.5, 2)}]
)
def test_invalid_ranges_are_refused(wrong: dict):
    with pytest.raises(GCFSRError, match=next(iter(wrong))):
        PhotographRanges(**wrong)


def options(folder: Path, **changes: object) -> dict:
    return {
        "name": "f",
        "dataroot_gt": str(folder),
        "out_size": 32,
        "factor_range": [1.5, 8],
        "max_factor": 8,
        **changes,
    }


def test_a_sample_has_the_clean_base_of_its_factor(folder: Path):
    dataset = PhotographDegradationDataset(options(folder, phase="val"))
    for sample in map(dataset.__getitem__, range(4)):
        factor = float(sample["factor"])
        assert 1.5 <= factor <= 8
        assert float(sample["s"]) == pytest.approx(factor / 8)
        expected = degrade_planes(sample["gt"].numpy(), factor)
        np.testing.assert_allclose(sample["base"].numpy(), expected, atol=1e-6)
        assert "valid" not in sample


def test_the_valid_area_moves_with_the_image(folder: Path, tmp_path: Path):
    """Half of an image is white padding; at every place the image is moved to, the mask covers what is not white."""
    image = np.full((32, 32, 3), 255, np.uint8)
    image[:, :20] = 40
    cv2.imwrite(str(folder / "0.png"), image)
    table = tmp_path / "valid.tsv"
    table.write_text("file\tcorners\n0.png\t-1 -1 0.625 -1 0.625 2 -1 2\n")
    moved = {"use_hflip": True, "misplace": {"shift": [-0.2, 0.2], "rotate": [-20, 20]}, "valid_corners": str(table)}
    dataset = PhotographDegradationDataset(options(folder, phase="train", **moved))
    for epoch in range(12):
        sample = dataset.at(epoch, 0)
        dark, valid = sample["gt"][0] < 0, sample["valid"][0] > 0.5
        assert (dark == valid).float().mean() > 0.97
        assert 0.05 < valid.float().mean() < 0.95
    assert torch.equal(dataset.at(0, 1)["valid"], torch.ones(1, 32, 32))  # not listed: all valid


def test_masks_of_corners(tmp_path: Path):
    table = tmp_path / "valid.tsv"
    table.write_text("file\tcorners\na.jpg\t0.25 0 1 0 1 1 0.25 1\n")
    areas = ValidAreas.read(str(table))
    mask = areas.mask("folder/a.jpg", 64)
    assert np.array_equal(areas.mask("copies/a.png", 64), mask)
    assert np.array_equal(mask[10], np.repeat([0, 255], [16, 48]))
    for text in (
        "file\tcorners\na.jpg\t0 0 1\n",
        "file\tcorners\na.jpg 0 0 1 0 1 1 0 1\n",
        "f\tc\na\tnan 0 0 0 0 0 0 0\n",
    ):
        table.write_text(text)
        with pytest.raises(GCFSRError, match=r"valid\.tsv"):
            ValidAreas.read(str(table))


def test_a_repeated_draw_is_the_same(gt: np.ndarray):
    first, second = (degrade_photograph(gt, 3.0, np.random.default_rng(7), PhotographRanges()) for _ in range(2))
    assert np.array_equal(first, second)
