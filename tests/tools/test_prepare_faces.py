"""Faces brought to one size, as a folder and as an LMDB that BasicSR and our data sets read."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import prepare_faces
from gcfsr_arch import GCFSRError
from gcfsr_datasets.image_io import read_image, write_image
from gcfsr_datasets.multi_factor_dataset import MultiFactorDegradationDataset


@pytest.fixture
def portraits(tmp_path: Path) -> Path:
    """Three 64-pixel images in two subfolders, as FFHQ has them."""
    rng = np.random.default_rng(0)
    for number in range(3):
        place = tmp_path / "faces" / f"{number // 2:05d}"
        place.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        write_image(place / f"{number:05d}.png", cv2.resize(coarse, (64, 64), interpolation=cv2.INTER_CUBIC))
    return tmp_path / "faces"


def test_reduced_images_equal_matlabs_bicubic(portraits: Path, tmp_path: Path) -> None:
    matlab = pytest.importorskip("basicsr.utils.matlab_functions")
    prepare_faces.run([str(portraits), str(tmp_path / "out"), "--size", "32"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["00000.png", "00001.png", "00002.png"]
    whole = read_image(portraits / "00000" / "00001.png").bgr.astype(np.float32) / 255
    expected = np.clip(matlab.imresize(whole, 0.5), 0, 1) * 255
    assert np.abs(read_image(tmp_path / "out" / "00001.png").bgr - expected).max() <= 0.5 + 1e-3


def test_an_lmdb_is_read_by_basicsr_and_by_our_data_set(portraits: Path, tmp_path: Path) -> None:
    files = pytest.importorskip("basicsr.utils.file_client")
    for out in ("small", "small.lmdb"):
        prepare_faces.run([str(portraits), str(tmp_path / out), "--size", "32"])
    client = files.FileClient("lmdb", db_paths=str(tmp_path / "small.lmdb"), client_keys="gt")
    assert client.get("00002", "gt") == (tmp_path / "small" / "00002.png").read_bytes()
    del client
    block = {"out_size": 32, "factor": 4, "phase": "val"}
    disk = MultiFactorDegradationDataset({**block, "dataroot_gt": str(tmp_path / "small")})
    lmdb = {"dataroot_gt": str(tmp_path / "small.lmdb"), "io_backend": {"type": "lmdb"}}
    ours = MultiFactorDegradationDataset({**block, **lmdb})
    assert len(ours) == len(disk) == 3
    assert all((ours[i]["lq"] == disk[i]["lq"]).all() for i in range(3))


def test_a_list_chooses_and_orders(portraits: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("00002.png (64,64,3)\n\n00000.jpg\n")
    prepare_faces.run([str(portraits), str(tmp_path / "o.lmdb"), "--size", "64", "--list", str(tmp_path / "list.txt")])
    meta = (tmp_path / "o.lmdb" / "meta_info.txt").read_text().split("\n")
    assert [line.split()[0] for line in meta if line] == ["00002.png", "00000.png"]


@pytest.mark.parametrize(
    ("size", "listed", "said"),
    [(128, None, "64x64; an aligned face is square and at least 128"), (32, "nobody\n", "no image nobody")],
)
def test_nothing_is_left_behind_by_an_error(
    portraits: Path, tmp_path: Path, size: int, listed: str | None, said: str
) -> None:
    words = [str(portraits), str(tmp_path / "out"), "--size", str(size)]
    if listed:
        (tmp_path / "list.txt").write_text(listed)
        words += ["--list", str(tmp_path / "list.txt")]
    before = sorted(tmp_path.iterdir())
    with pytest.raises(GCFSRError, match=said):
        prepare_faces.run(words)
    assert sorted(tmp_path.iterdir()) == before


def test_two_images_of_one_name_are_an_error(portraits: Path, tmp_path: Path) -> None:
    (portraits / "00001" / "00000.png").write_bytes((portraits / "00000" / "00000.png").read_bytes())
    with pytest.raises(GCFSRError, match="has the same name"):
        prepare_faces.run([str(portraits), str(tmp_path / "out"), "--size", "32"])


def test_an_error_is_one_line(root: Path, tmp_path: Path, outside: dict[str, str]) -> None:
    command = [sys.executable, str(root / "tools" / "prepare_faces.py"), str(tmp_path), str(tmp_path), "--size", "8"]
    done = subprocess.run(command, env=outside, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"gcfsr: error: {tmp_path}: exists already; remove it or choose another name\n"
