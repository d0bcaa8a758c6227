"""Enlarging the rest: by interpolation, and by a network that spandrel loads from the file Real-ESRGAN publishes."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.photo import background
from gcfsr_inference.photo.background import REALESRGAN, enlarge


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """A small network of a form that spandrel knows, which doubles by repeating pixels (its convolutions give zero)."""
    compact = pytest.importorskip("spandrel.architectures.Compact")
    torch.manual_seed(0)
    state = compact.Compact(num_feat=8, num_conv=1, upscale=2).state_dict()
    last = max((name for name in state if name.endswith("weight")), key=lambda name: int(name.split(".")[1]))
    state[last].zero_()
    state[last.replace("weight", "bias")].zero_()
    torch.save({"params_ema": state}, tmp_path / REALESRGAN)
    return str(tmp_path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_network_in_tiles(weights: str, dtype: type) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (75, 130, 3), dtype)
    result = enlarge(image, 2, "realesrgan", weights, tile=40)
    assert np.abs(result.astype(int) - image.repeat(2, 0).repeat(2, 1)).max() <= (0 if dtype == np.uint8 else 1)
    assert enlarge(image, 3, "realesrgan", weights).shape == (225, 390, 3)
    once = enlarge(image, 1, "realesrgan", weights)
    assert np.abs(once.astype(int) - image).max() <= 1


def test_alpha_is_interpolated(weights: str) -> None:
    alpha = np.full((20, 30), 200, np.uint8)
    assert (enlarge(alpha, 2, "realesrgan", weights) == np.full((40, 60), 200)).all()


def test_missing_or_other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    monkeypatch.setattr("gcfsr_inference.photo.realesrgan.PACKAGE", "no_such_package")
    with pytest.raises(GCFSRError, match=r"weights are missing.*gcfsr\[background\].*--weights-dir or GCFSR_WEIGHTS"):
        enlarge(image, 2, "realesrgan", str(tmp_path))
    pytest.importorskip("spandrel")
    for content in (b"damaged", None):
        background.load_network.cache_clear()
        path = tmp_path / REALESRGAN
        torch.save({"a": torch.zeros(1)}, path) if content is None else path.write_bytes(content)
        with pytest.raises(GCFSRError, match="not the weights of an upscaling network"):
            enlarge(image, 2, "realesrgan", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "method"), [("none", cv2.INTER_LANCZOS4), ("lanczos", cv2.INTER_LANCZOS4), ("bicubic", cv2.INTER_CUBIC)]
)
def test_interpolations(name: str, method: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8)
    np.testing.assert_array_equal(enlarge(image, 2, name), cv2.resize(image, (80, 60), interpolation=method))
    np.testing.assert_array_equal(enlarge(image, 0.5, name), cv2.resize(image, (20, 15), interpolation=cv2.INTER_AREA))
    same = enlarge(image, 1, name)
    np.testing.assert_array_equal(same, image)
    assert same is not image


@pytest.mark.parametrize(
    ("upscale", "name", "tile"), [(0, "none", 400), (float("nan"), "none", 400), (17, "none", 400), (2, "waifu", 400),
                                  (2, "none", 8)]
)  # fmt: skip
def test_out_of_range(upscale: float, name: str, tile: int) -> None:
    with pytest.raises(GCFSRError, match=r"^(upscale|background|tile) "):
        enlarge(np.zeros((10, 10, 3), np.uint8), upscale, name, tile=tile)
