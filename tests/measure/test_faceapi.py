"""dlib's embedding and the 68 landmarks against what face-api itself computes, and on real faces.

The npm package is fetched with `npm pack`; where that cannot be done the tests are skipped.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gcfsr_measure import faceapi
from gcfsr_measure.catalogue import entry_of
from gcfsr_measure.faces import DLIB_BOX, LANDMARK_BOX, face_crop
from gcfsr_measure.measures import Case

# face-api 1.7.15 in JavaScript (TensorFlow.js, CPU) on `pattern`: the first values of the descriptor and landmarks
DESCRIPTOR = (
    -0.0850, 0.1503, 0.0629, 0.0092, -0.0779, -0.0347, -0.0200, -0.0533,
    0.1079, 0.0104, 0.1916, -0.0324, -0.2579, -0.0755, -0.0368, 0.0969,
)  # fmt: skip
LANDMARKS = (
    0.0919, 0.2591, 0.1104, 0.3749, 0.1439, 0.4873, 0.1832, 0.5863,
    0.2451, 0.6866, 0.3220, 0.7671, 0.4047, 0.8329, 0.4992, 0.9088,
)  # fmt: skip


def pattern(side: int) -> torch.Tensor:
    """An image by a formula. (1, 3, side, side) uint8."""
    y, x, c = np.meshgrid(np.arange(side), np.arange(side), np.arange(3), indexing="ij")
    values = (x * 7 + y * 13 + c * 31 + x * y % 97 * 2) % 256
    return torch.from_numpy(values.astype(np.uint8)).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def weights(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the converted weights."""
    folder = tmp_path_factory.mktemp("face_api")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    line = [npm, "pack", "@vladmandic/face-api@1.7.15"]
    try:
        subprocess.run(line, cwd=folder, check=True, capture_output=True, timeout=60)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("npm pack @vladmandic/face-api failed or took more than a minute")
    convert(root, next(folder.glob("*.tgz")), folder)
    return folder


def convert(root: Path, package: Path, out: Path) -> None:
    tool = [sys.executable, str(root / "tools" / "face_api.py"), str(package), str(out)]
    subprocess.run(tool, check=True, capture_output=True)


@pytest.fixture(scope="module")
def people(shared: Path) -> dict[str, np.ndarray]:
    """Aligned faces of the London set: neutral (n) and smiling (s) ones by the number of the person."""
    files = [file for name in ("train256", "val256") for file in (shared / "faces" / name).glob("lon_*")]
    return {file.stem.removeprefix("lon_"): cv2.imread(str(file)) for file in sorted(files)}


def tensor(images: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)[..., ::-1].copy()).permute(0, 3, 1, 2)


def test_both_networks_give_face_apis_own_values(weights: Path) -> None:
    embed = faceapi.dlib_embedding(weights / "dlib-face.safetensors", "cpu")
    find = faceapi.landmarks(weights / "face-landmark-68.safetensors", "cpu")
    np.testing.assert_allclose(embed(pattern(150))[0, :16], DESCRIPTOR, atol=1e-4)
    np.testing.assert_allclose(find(pattern(112))[0].flatten()[:16], LANDMARKS, atol=1e-4)
    assert sum(parameter.numel() for parameter in faceapi.DlibFace().parameters()) == 5_607_488


def test_dlib_distinguishes_people(weights: Path, people: dict[str, np.ndarray]) -> None:
    """Area under the curve over every pair of images: same person above other people."""
    embed = faceapi.dlib_embedding(weights / "dlib-face.safetensors", "cpu")
    rows = embed(tensor([face_crop(face, DLIB_BOX, 150) for face in people.values()])).numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    persons = np.array([name[:3] for name in people])
    pairs = np.triu_indices(len(rows), 1)
    cosine, same = (rows @ rows.T)[pairs], (persons[:, None] == persons)[pairs]
    assert same.sum() > 50
    area = np.mean(cosine[same][:, None] > cosine[~same])
    assert area > 0.999
    assert cosine[same].mean() == pytest.approx(0.987, abs=0.005)  # the note of the catalogue
    assert cosine[~same].mean() == pytest.approx(0.836, abs=0.01)


def test_landmarks_lie_on_ffhqs_points(weights: Path, people: dict[str, np.ndarray]) -> None:
    find = faceapi.landmarks(weights / "face-landmark-68.safetensors", "cpu")
    found = find(tensor([face_crop(face, LANDMARK_BOX, 112) for face in people.values()])).numpy()
    found = (np.array(LANDMARK_BOX[:2]) + found * LANDMARK_BOX[2]) * 256
    five = [found[:, 36:42].mean(1), found[:, 42:48].mean(1), found[:, 30], found[:, 48], found[:, 54]]
    wanted = np.array([[96, 119], [160, 120], [127, 157], [98, 186], [154, 186]])  # README of the faces
    assert np.linalg.norm(np.mean(five, axis=1) - wanted, axis=1).max() < 64 / 10  # a tenth of the eyes' distance


def test_landmark_error_is_the_shift_of_a_shifted_face(weights: Path, people: dict[str, np.ndarray]) -> None:
    measure = entry_of("landmarks").make(weights / "face-landmark-68.safetensors", "cpu")
    faces = list(people.values())[:20]
    assert measure([Case(face, face, face) for face in faces]) == pytest.approx([0] * 20, abs=1e-4)
    shifted = measure([Case(face, np.roll(face, 5, axis=1), face) for face in faces])
    assert np.mean(shifted) == pytest.approx(100 * 5 / 90, rel=0.25)  # the outer corners are about 90 pixels apart


def test_a_package_of_another_kind_is_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other.tgz").write_bytes(b"no archive")
    for package in (tmp_path / "other.tgz", tmp_path / "none.tgz", tmp_path):
        tool = [sys.executable, str(root / "tools" / "face_api.py"), str(package), str(tmp_path / "out")]
        done = subprocess.run(tool, capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "give the .tgz of `npm pack @vladmandic/face-api`" in done.stderr
    assert not (tmp_path / "out").exists()
