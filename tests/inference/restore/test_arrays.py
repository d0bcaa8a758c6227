"""Images and tensors in float32: the values of float64 within rounding, and half of its memory."""

import tracemalloc

import numpy as np
import pytest

from gcfsr_datasets.resize import resize
from gcfsr_inference.photo.gain import reason_to_leave
from gcfsr_inference.restore.arrays import alpha_at, network_input, network_view, to_depth, unit_bgr
from gcfsr_inference.restore.dial import strength_map


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("side", [20, 64, 150])
def test_values_are_those_of_float64(dtype, side):
    top = np.iinfo(dtype).max
    image = np.random.default_rng(side).integers(0, top + 1, (side, side, 3)).astype(dtype)
    wanted = resize(image / top, (64, 64)) if side != 64 else image / top  # float64
    tensor = network_input(image, 64)[0].numpy()[::-1].transpose(1, 2, 0)
    assert np.abs((tensor + 1) / 2 - wanted).max() < 1e-6
    seen = network_view(image, 64)
    exact = np.clip(wanted, 0, 1) * top
    assert np.abs(seen - exact).max() <= 0.5 + 0.02  # of one step of 8 or 16 bits
    assert (seen != np.rint(exact)).mean() < 0.02  # only where the half is met
    alpha = alpha_at(image[..., 0], 64)
    assert np.abs(alpha - np.clip(resize(image[..., 0] / top, (64, 64)), 0, 1) * top).max() <= 0.5 + 0.02


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_value_survives_the_round_trip(dtype):
    values = np.arange(np.iinfo(dtype).max + 1).astype(dtype).reshape(16, -1)
    assert unit_bgr(values).dtype == np.float32
    np.testing.assert_array_equal(to_depth(unit_bgr(values), dtype)[..., 0], values)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_map_of_strengths_is_that_of_float64(dtype):
    mask = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (30, 40, 3)).astype(dtype)
    wanted = 0.1 + (mask / np.iinfo(dtype).max).mean(axis=2) * 0.9
    found = strength_map(mask, (30, 40), 0.1, 1.0, "mask")
    assert found.dtype == np.float32
    assert np.abs(found - wanted).max() < 1e-6
    gray = strength_map(mask[..., 0], (30, 40), 0.1, 1.0, "mask")
    assert np.abs(gray - (0.1 + mask[..., 0] / np.iinfo(dtype).max * 0.9)).max() < 1e-6


@pytest.mark.parametrize(
    "work", [lambda image: network_input(image, 64), lambda image: reason_to_leave(image, 4.0, 2.0, image)]
)
def test_no_copy_of_an_image_in_float64(work):
    image = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), dtype=np.uint8)
    work(image)  # what is cached
    tracemalloc.start()
    work(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * image.size  # one copy in float64 alone
