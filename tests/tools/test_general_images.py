"""Crops of photographs that packages ship: squares with detail, and none of a photograph on both sides."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("skimage.data")
pytest.importorskip("sklearn.datasets")

import general_images
from gcfsr_datasets.image_io import list_images, read_image


def test_crops_are_the_squares_with_detail() -> None:
    image = np.full((300, 260, 3), 90, np.uint8)
    image[128:256, 128:256] = np.random.default_rng(0).integers(0, 256, (128, 128, 3))
    (crop,) = general_images.crops(image, 128)
    np.testing.assert_array_equal(crop, image[128:256, 128:256])


def test_the_tool_writes_both_folders(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(root / "tools" / "general_images.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    train, test = (
        {path.stem.rpartition("_")[0] for path in list_images(tmp_path / part)} for part in ("train", "test")
    )
    assert len(train) == 10
    assert len(test) == 3
    assert not train & test
    chelsea = general_images.photograph("chelsea")[:128, :128, ::-1]
    np.testing.assert_array_equal(read_image(tmp_path / "test" / "chelsea_000.png").bgr, chelsea)
