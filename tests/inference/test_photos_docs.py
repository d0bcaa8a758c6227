"""The examples of docs/photos.md run unchanged."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from gcfsr_arch import GCFSR, save_generator
from gcfsr_inference.restore import weights


def test_examples_run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnxruntime", "onnxscript", "huggingface_hub", "spandrel"):
        pytest.importorskip(package)
    photo = pytest.importorskip("skimage.data").astronaut()
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("astronaut.png", np.ascontiguousarray(photo[..., ::-1]))
    if weights.DEFAULT_NAME not in weights.bundled():
        save_generator(GCFSR(32, 32, narrow=1 / 16, min_factor=2, max_factor=16), "gcfsr-256.safetensors")
        monkeypatch.setattr(weights, "bundled", lambda: {"gcfsr-256": tmp_path / "gcfsr-256.safetensors"})
    text = (root / "docs" / "photos.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert len(blocks) == 4
    names: dict = {}
    for code in blocks:
        exec(compile(code, "docs/photos.md", "exec"), names)
    assert (names["done"].image != names["photograph"]).any()
    assert names["restored"].shape == (1, 3, 32, 32)
