"""The examples of docs/python-api.md run unchanged."""

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from gcfsr_arch import GCFSR, save_generator
from gcfsr_datasets.resize import resize
from gcfsr_inference.restore import weights


@pytest.fixture
def blocks(root: Path) -> list[tuple[str, str]]:
    text = (root / "docs" / "python-api.md").read_text(encoding="utf-8")
    return re.findall(r"^```python ?(\w*)\n(.*?)^```", text, re.M | re.S)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, astronaut: np.ndarray) -> Path:
    """A folder with the images that the page names, and a bundled network where this checkout has none."""
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("face.png", np.clip(resize(astronaut / 255, (32, 32)) * 255, 0, 255).round().astype(np.uint8))
    cv2.imwrite("photograph.jpg", astronaut)
    if weights.DEFAULT_NAME not in weights.bundled():
        save_generator(GCFSR(32, 32, narrow=1 / 16, min_factor=2, max_factor=16), "gcfsr-256.safetensors")
        monkeypatch.setattr(weights, "bundled", lambda: {"gcfsr-256": tmp_path / "gcfsr-256.safetensors"})
    return tmp_path


def test_examples_run(blocks, place):
    names: dict = {}
    assert len(blocks) >= 7
    for kind, code in blocks:
        if not kind:
            exec(compile(code, "docs/python-api.md", "exec"), names)
    assert {"restored.png", "sheet.png", "sweep.html"} <= {path.name for path in place.iterdir()}
    assert len({step.tobytes() for step in names["steps"]}) == 4


def test_the_photograph_runs_where_a_detector_is(blocks, place, shared, monkeypatch):
    monkeypatch.setenv("GCFSR_WEIGHTS", str(shared / "weights"))
    shutil.copy(next((shared / "photos").glob("london*")), "photograph.jpg")
    (first, photo) = blocks[0][1], next(code for kind, code in blocks if kind == "photo")
    names: dict = {}
    exec(compile(first + photo, "docs/python-api.md", "exec"), names)
    assert names["done"].faces
    assert names["done"].image.shape == names["photograph"].shape
