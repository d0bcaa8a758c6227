"""The second-order degradation against BasicSR's kernels, the same steps by hand, and its properties."""

from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.blind_face_dataset import BlindFaceDegradationDataset
from gcfsr_datasets.degradation.second_order import (
    KINDS,
    OnePass,
    SecondOrderRanges,
    blur_kernel,
    degrade_twice,
    poisson_noise,
    sinc_kernel,
)


@pytest.mark.parametrize("sigma", [(1.5, 1.5), (0.6, 2.5)])
@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.7])
def test_kernels_are_basicsrs(degradations: ModuleType, sigma: tuple[float, float], exponent: float) -> None:
    named = {"plateau": degradations.bivariate_plateau, "general": degradations.bivariate_generalized_Gaussian}
    for name, theirs in named.items():
        wanted = theirs(13, *sigma, 0.7, exponent, isotropic=sigma[0] == sigma[1])
        found = blur_kernel(13, sigma, 0.7, exponent, plateau=name == "plateau")
        np.testing.assert_allclose(found, wanted, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(("size", "cutoff"), [(7, 1.2), (21, 3.1)])
def test_the_sinc_kernel_is_basicsrs(degradations: ModuleType, size: int, cutoff: float) -> None:
    with np.errstate(invalid="ignore"):  # theirs divides by the distance in the middle
        wanted = degradations.circular_lowpass_kernel(cutoff, size)
    np.testing.assert_allclose(sinc_kernel(size, cutoff), wanted, atol=1e-12)


@pytest.mark.parametrize("gray", [False, True])
def test_poisson_noise_has_its_variance(gray: bool) -> None:
    """256 levels are 256 photons at white: the variance of a pixel of value v is v / 256."""
    ramp = np.repeat(np.arange(256, dtype=np.float32)[None, :, None] / 255, 4000, 0)
    noise = poisson_noise(np.repeat(ramp, 3, 2), np.random.default_rng(0), gray)
    assert noise.shape[2] == (1 if gray else 3)
    np.testing.assert_allclose(noise.mean((0, 2)), 0, atol=0.006)
    np.testing.assert_allclose(noise.var((0, 2)), np.arange(256) / 255 / 256, rtol=0.2, atol=1e-6)


def test_the_steps_by_hand(degradations: ModuleType, gt: np.ndarray) -> None:
    """With one choice left at every draw but the interpolation."""
    once: dict[str, Any] = {
        "blur_kernel_size": 7, "kernel_list": ("iso",), "kernel_prob": (1,), "sinc_prob": 0, "blur_sigma": (2, 2),
        "resize_prob": (0, 0, 1), "gaussian_noise_prob": 1, "noise_range": (0, 0), "jpeg_range": (90, 90),
    }  # fmt: skip
    twice = {f"{key}2": value for key, value in once.items()} | {"blur_sigma2": (1, 1), "jpeg_range2": (80, 80)}
    ranges = SecondOrderRanges(**once, **twice, second_blur_prob=1, final_sinc_prob=0)
    found = degrade_twice(gt, np.random.default_rng(0), ranges, (48, 48))

    def blur(image: np.ndarray, sigma: float) -> np.ndarray:
        return cv2.filter2D(image, -1, degradations.bivariate_Gaussian(7, sigma, sigma, 0))

    image = blur(degradations.add_jpg_compression(blur(gt, 2), 90), 1)
    wanted = [
        degradations.add_jpg_compression(np.clip(cv2.resize(image, (48, 48), interpolation=mode), 0, 1), 80)
        for mode in (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
    ]
    assert min(np.abs(found - one).mean() for one in wanted) < 0.3 / 255
    assert sorted(np.abs(found - one).mean() for one in wanted)[1] > 0.5 / 255  # the others are not as close


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), height=st.integers(1, 60), width=st.integers(1, 60))
def test_every_draw_is_an_image_of_its_size(gt: np.ndarray, seed: int, height: int, width: int) -> None:
    small = cv2.resize(gt, (64, 64), interpolation=cv2.INTER_AREA)
    found = degrade_twice(small, np.random.default_rng(seed), SecondOrderRanges(), (height, width))
    assert found.shape == (height, width, 3)
    assert found.dtype == np.float32
    assert 0 <= found.min() <= found.max() <= 1
    again = degrade_twice(small, np.random.default_rng(seed), SecondOrderRanges(), (height, width))
    assert np.array_equal(found, again)


def test_every_kind_of_kernel_is_drawn_and_sums_to_one() -> None:
    rng = np.random.default_rng(0)
    for kind in KINDS:
        ranges = SecondOrderRanges(kernel_list=(kind,), kernel_prob=(1,), sinc_prob=0, blur_sigma=(2, 3))
        kernels = [OnePass(ranges, "", rng).kernel() for _ in range(40)]
        assert {len(kernel) for kernel in kernels} == {7, 9, 11, 13, 15, 17, 19, 21}
        assert all(kernel.sum() == pytest.approx(1) for kernel in kernels)
        round_ones = [np.allclose(kernel, kernel.T) for kernel in kernels]
        assert all(round_ones) != kind.endswith("aniso")


def blind(root: Path, **more: Any) -> BlindFaceDegradationDataset:
    base = {"name": "faces", "type": "BlindFaceDegradationDataset", "phase": "train", "scale": 1, "out_size": 32}
    return BlindFaceDegradationDataset({**base, "dataroot_gt": str(root), **more})


def test_the_data_set_mixes_it_in(folder: Path) -> None:
    dataset = blind(folder, second_order={"prob": 0.5, "blur_sigma": [0.2, 1]}, repeats=2)
    assert dataset.options.second_order is not None
    assert dataset.options.second_order.blur_sigma == (0.2, 1)
    alone, workers = (list(DataLoader(dataset, 4, num_workers=count)) for count in (0, 2))
    assert all(torch.equal(a["lq"], b["lq"]) for a, b in zip(alone, workers, strict=True))
    assert "conditions" not in alone[0]
    assert alone[0]["lq"].shape == (4, 3, 32, 32)
    first = blind(folder)
    assert "conditions" in first.at(0, 0)
    assert not torch.equal(blind(folder, second_order={"prob": 1}).at(0, 0)["lq"], first.at(0, 0)["lq"])


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"kernel_list2": ["round"]}, "kernel_list2: .* must be of iso, aniso"),
        ({"kernel_prob": [1, 1]}, "kernel_prob: .* one probability for each of kernel_list"),
        ({"resize_range": [0.2, 0.8]}, "resize_range: .* a range with 1 in it"),
        ({"jpeg_range": [30, 101]}, "jpeg_range: .* at most 100"),
        ({"blur_kernel_size2": 8}, "blur_kernel_size2: 8 must be odd"),
        ({"noise_range": [5, 1]}, r"noise_range: .* \[smallest, largest\]"),
        ({"prob": 2}, "prob: 2 must be between 0 and 1"),
        ({"sinc_prb": 1}, "sinc_prb is not an option, did you mean 'sinc_prob'"),
    ],
)
def test_wrong_ranges_are_named(folder: Path, block: dict[str, Any], words: str) -> None:
    with pytest.raises(GCFSRError, match=words):
        blind(folder, second_order=block)
