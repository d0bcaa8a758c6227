"""Small images, a tiny network and Python methods for `gcfsr evaluate`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from gcfsr_arch import GCFSR, save_generator
from gcfsr_inference.evaluation.conditions import find_protocol
from gcfsr_inference.evaluation.evaluate import Settings


@pytest.fixture
def gt(tmp_path: Path) -> Path:
    """Five smooth images of 64x64, named out of order."""
    folder = tmp_path / "gt"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("lon_b", "gen_a", "lon_a", "gen_c", "gen_b"):
        small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{name}.png"), cv2.resize(small, (64, 64), interpolation=cv2.INTER_CUBIC))
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny generator with factors 4 to 16."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_generator(GCFSR(64, num_style_feat=16, narrow=1 / 32, max_factor=16), path)
    return path


@pytest.fixture
def asked() -> Callable[..., Settings]:
    """Settings with few metrics and an output folder beside the ground truth: (gt, *specs, factors, ...)."""

    def settings(gt: Path, *specs: str, factors: str = "4,8", **options: Any) -> Settings:
        metrics = ("psnr", "ssim", "niqe", "consistency")
        options = {"metrics": metrics, "out": str(gt.parent / "out"), "batch": 2, **options}
        return Settings(gt=str(gt), protocol=find_protocol(None, factors), methods=specs, **options)

    return settings


def half(low: np.ndarray, factor: float, size: tuple[int, int]) -> np.ndarray:
    """A Python method: every pixel 127.5, which rounds to even, 128."""
    assert low.dtype == np.uint8
    assert low.shape[0] == round(size[0] / factor)
    return np.full((*size, 3), 127.5, np.float32)


def broken(low: np.ndarray, factor: float, size: tuple[int, int]) -> np.ndarray:
    """Returns a NaN for images with a mean below `broken.limit`."""
    result = np.zeros((*size, 3), np.float32)
    if low.mean() < broken.limit:  # type: ignore[attr-defined]
        result[0, 0] = np.nan
    return result


def raising(low: np.ndarray, factor: float, size: tuple[int, int]) -> np.ndarray:
    raise KeyError("no such\nface")


@pytest.fixture(autouse=True)
def own_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python:own_methods:half` and the like."""
    monkeypatch.setitem(sys.modules, "own_methods", sys.modules[__name__])
