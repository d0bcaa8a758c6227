"""`gcfsr check-data` finds every fault at once."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from gcfsr_datasets.check import QUICK_SAMPLE, check_data, check_folder
from gcfsr_datasets.dataset_options import FaceOptions


def spoil(folder: Path) -> None:
    (folder / "1.png").write_bytes(b"")
    (folder / "2.png").write_text("no image")
    (folder / "3.png").write_bytes((folder / "4.png").read_bytes()[:500])
    cv2.imwrite(str(folder / "5.jpg"), np.zeros((32, 33, 3), np.uint8))
    cv2.imwrite(str(folder / "6.webp"), np.zeros((16, 16, 3), np.uint8))


def test_all_faults_are_listed(folder: Path):
    assert check_folder(folder, 32).faults == []
    spoil(folder)
    report = check_folder(folder, 32, batch=99)
    assert report.checked == 10
    assert len(report.faults) == 6
    for name, words in (
        ("1.png", "empty"),
        ("2.png", "not an image"),
        ("3.png", "damaged"),
        ("5.jpg", "not square"),
        ("6.webp", "smaller"),
        ("faces", "fewer than a batch of 99"),
    ):
        assert any(name in fault and words in fault for fault in report.faults), name
    assert len(check_folder(folder).faults) == 4  # without a size they need only be square
    missing = check_folder(folder / "none")
    assert missing.checked == 0
    assert "no such folder" in missing.faults[0]


def test_the_quick_check_reads_headers(folder: Path):
    spoil(folder)
    (folder / "3.png").unlink()
    faults = check_data(FaceOptions(str(folder), 32), batch=4).faults
    assert [Path(fault.split(": ")[0]).name for fault in faults] == ["1.png", "2.png", "5.jpg", "6.webp"]


@pytest.mark.parametrize("count", [200, 201, 399, 1000])
def test_the_quick_check_reads_no_more_headers_than_it_says(folder: Path, tmp_path: Path, count: int):
    listing = tmp_path / "listing.txt"
    listing.write_text("\n".join(["0.png"] * count))
    report = check_data(FaceOptions(str(folder), 32, meta_info_file=str(listing)), batch=4)
    assert QUICK_SAMPLE / 2 <= report.checked <= QUICK_SAMPLE
    assert report.faults == []


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gcfsr_inference.cli", "check-data", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_the_command(folder: Path):
    done = run(str(folder), "--out-size", "32", "--batch", "8")
    assert (done.returncode, done.stderr) == (0, "")
    assert "8 images, all valid" in done.stdout
    spoil(folder)
    done = run(str(folder), "--out-size", "32")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert sum(line.startswith(str(folder)) for line in done.stderr.splitlines()) == 5
    assert done.stderr.splitlines()[-1] == f"gcfsr: error: {folder}: 5 faults in 10 images"
