"""Consistency of results with inputs, and locking."""

from functools import partial

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.resize import resize
from gcfsr_inference.restore.consistency import EQUAL, agreed, consistency, lock

GRAY = np.full((32, 32), 128, np.uint8)


def shrunk(image: np.ndarray, side: int) -> np.ndarray:
    top = np.iinfo(image.dtype).max
    return np.clip(resize(image / top, (side, side)) * top, 0, top).round().astype(image.dtype)


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
def test_the_ground_truth_agrees_with_its_input_to_half_a_step(astronaut, factor):
    gt = shrunk(astronaut, 128)
    found = consistency(gt, shrunk(gt, round(128 / factor)), factor)
    assert found.size == round(128 / factor)
    assert found.largest <= 0.5
    assert found.psnr > 55


def test_against_plain_numpy(astronaut):
    gt, other = shrunk(astronaut, 64), shrunk(np.ascontiguousarray(astronaut[:, ::-1]), 64)
    found = consistency(other, shrunk(gt, 16), 4)
    difference = shrunk(gt, 16) - np.clip(resize(other / 255, (16, 16)), 0, 1) * 255
    assert found.mean == pytest.approx(np.abs(difference).mean(), abs=1e-3)
    assert found.largest == pytest.approx(np.abs(difference).max(), abs=1e-3)
    assert found.psnr == pytest.approx(10 * np.log10(255**2 / np.mean(difference**2)), abs=1e-3)


def test_equal_images_have_a_finite_psnr(astronaut):
    assert consistency(astronaut, astronaut, 1).psnr == EQUAL


def test_an_input_larger_than_its_content_is_shrunk_first(astronaut):
    gt = shrunk(astronaut, 128)
    blurred = shrunk(shrunk(gt, 16), 128)
    assert consistency(gt, blurred, 8).size == 16


@pytest.mark.parametrize(
    ("restored", "given", "factor", "words"),
    [
        (GRAY, GRAY, 0, "^factor 0: at least 1"),
        (GRAY, GRAY, float("nan"), "^factor nan"),
        (GRAY, GRAY, "x", "^factor 'x': pass a number"),
        (None, GRAY, 4, "^restored: "),
        (GRAY, GRAY / 255, 4, "^given: "),
        (GRAY, GRAY[:0], 4, "^given: 32x0"),
    ],
)
def test_wrong_arguments_are_named(restored, given, factor, words):
    for call in (consistency, lock, partial(agreed, share=0.5)):
        with pytest.raises(GCFSRError, match=words):
            call(restored, given, factor)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([2, 3.3, 4, 8, 16]),
    st.sampled_from([np.uint8, np.uint16]),
    st.booleans(),
)
def test_locking_reaches_half_a_step_on_the_mean(seed, factor, dtype, gray):
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    shape = (64, 64) if gray else (64, 64, 3)
    side = round(64 / factor)
    smooth = np.clip(scipy.ndimage.gaussian_filter(rng.normal(0, 1, shape), 3) + 0.5, 0.05, 0.95)
    given_ = np.clip(resize(smooth, (side, side)) * top, 0, top).round().astype(dtype)
    wrong = rng.integers(0, top, shape, dtype, endpoint=True)
    locked, cost = lock(wrong, given_, factor)
    assert locked.shape == wrong.shape
    assert locked.dtype == wrong.dtype
    assert cost.after.mean < 0.5
    assert consistency(locked, given_, factor) == cost.after


def test_locking_what_agrees_changes_nothing(astronaut):
    gt = shrunk(astronaut, 128)
    locked, cost = lock(gt, shrunk(gt, 32), 4)
    assert np.array_equal(locked, gt)
    assert (cost.steps, cost.psnr_change) == (0, EQUAL)
    assert cost.before == cost.after


def test_the_cost_is_what_it_says(astronaut):
    gt = shrunk(astronaut, 128)
    blurred = np.round(scipy.ndimage.gaussian_filter(gt.astype(float), (3, 3, 0))).astype(np.uint8)
    locked, cost = lock(blurred, shrunk(gt, 32), 4)
    mse = np.mean((locked.astype(float) - blurred) ** 2)
    assert cost.psnr_change == pytest.approx(10 * np.log10(255**2 / mse), abs=1e-6)
    assert cost.sharpness_after > cost.sharpness_before
    assert cost.as_dict()["after"]["mean"] < 0.5


@pytest.mark.parametrize("share", [0, 0.25, 0.5, 1])
def test_one_back_projection_takes_away_its_share_of_the_difference(astronaut, share):
    gt, other = shrunk(astronaut, 128), shrunk(np.ascontiguousarray(astronaut[:, ::-1]), 128)
    other = (gt // 2 + other // 2).astype(np.uint8)
    given = shrunk(gt, 32)
    result = agreed(other, given, 4, share)
    before, after = (resize(image / 255, (32, 32)) - given / 255 for image in (other, result))
    inner = np.s_[4:-4, 4:-4]  # enlarging mirrors at the border
    remaining = float((after[inner] * before[inner]).sum() / np.square(before[inner]).sum())
    assert remaining == pytest.approx(1 - share, abs=0.12)
    if share == 0:
        np.testing.assert_array_equal(result, other)
