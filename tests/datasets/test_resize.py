"""The two matrices against BasicSR's `imresize`, and what any resampling must fulfil."""

from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.resize import resize, resize_matrix, resize_planes, resize_tensor

SIZES = st.integers(1, 48)


@pytest.mark.parametrize("shape", [(60, 96, 3), (128, 128), (60, 24, 1)])
@pytest.mark.parametrize("scale", [1 / 2, 1 / 3, 1 / 4, 2 / 3, 1, 3 / 2, 2, 5])
def test_equals_imresize(matlab: ModuleType, shape: tuple[int, ...], scale: float):
    image = np.random.default_rng(0).random(shape, np.float32)
    size = (round(shape[0] * scale), round(shape[1] * scale))
    if size != (shape[0] * scale, shape[1] * scale):
        pytest.skip("imresize rounds the size up without changing the scale: not a resizing of the whole image")
    # for other scales than powers of two, imresize rounds the coordinates to float32
    tolerance = 1e-6 if np.log2(scale) % 1 == 0 else 1e-5
    assert np.abs(resize(image, size) - matlab.imresize(image, scale)).max() < tolerance


@pytest.mark.parametrize("factor", [4, 8, 16, 32, 64])
def test_equals_imresize_at_1024(matlab: ModuleType, factor: int):
    image = np.random.default_rng(factor).random((1024, 1024, 3), np.float32)
    small = matlab.imresize(image, 1 / factor)
    assert np.abs(resize(image, (1024 // factor,) * 2) - small).max() < 1e-6
    assert np.abs(resize(small, (1024, 1024)) - matlab.imresize(small, factor)).max() < 1e-6


@given(SIZES, SIZES, SIZES, SIZES)
@settings(max_examples=40, deadline=None)
def test_tensors_and_planes_agree_with_arrays(height: int, width: int, to_height: int, to_width: int):
    image = np.random.default_rng(height * width).random((height, width, 2))
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    expected = resize(image, (to_height, to_width))
    assert expected.shape == (to_height, to_width, 2)
    assert expected.flags.c_contiguous
    assert expected.dtype == np.float64
    np.testing.assert_allclose(resize_planes(planes, (to_height, to_width)).transpose(1, 2, 0), expected, atol=1e-12)
    tensor = resize_tensor(torch.from_numpy(planes)[None], (to_height, to_width))[0]
    np.testing.assert_allclose(tensor.numpy().transpose(1, 2, 0), expected, atol=1e-12)


@given(st.integers(1, 400), st.integers(1, 400))
@settings(max_examples=60, deadline=None)
def test_matrix_properties(source: int, target: int):
    matrix = resize_matrix(source, target, np.float64).toarray()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)  # an even image stays even
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-9)  # mirroring before is mirroring after
    if source == target:
        np.testing.assert_array_equal(matrix, np.eye(source))


def test_smooth_images_survive_shrinking_and_enlarging():
    ramp = np.linspace(0, 1, 96)[:, None] + np.linspace(0, 1, 64)[None, :]
    back = resize(resize(ramp, (24, 16)), (96, 64))
    np.testing.assert_allclose(back[16:-16, 16:-16], ramp[16:-16, 16:-16], atol=1e-9)


def test_gradient_and_precision():
    x = torch.rand(1, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: resize_tensor(t, (3, 9)), x)
    half = torch.rand(1, 3, 16, 16, dtype=torch.bfloat16)
    assert resize_tensor(half, (8, 8)).dtype == torch.bfloat16
    with torch.inference_mode():
        resize_tensor(torch.rand(1, 1, 11, 11), (7, 7))
    x = torch.rand(1, 1, 11, 11, requires_grad=True)  # the matrices cached above take part in a backward
    resize_tensor(x, (7, 7)).sum().backward()
    assert x.grad is not None


def test_faults():
    with pytest.raises(GCFSRError, match="uint8 cannot be resized"):
        resize(np.zeros((4, 4), np.uint8), (2, 2))
    with pytest.raises(GCFSRError, match="empty side"):
        resize(np.zeros((4, 4)), (0, 2))
    with pytest.raises(GCFSRError, match="int64 cannot be resized"):
        resize_tensor(torch.zeros(1, 1, 4, 4, dtype=torch.int64), (2, 2))
