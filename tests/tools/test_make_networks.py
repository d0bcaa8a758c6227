"""`make networks`: the data it prepares, the networks it writes, and the whole way in miniature."""

import argparse
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.utils.matlab_functions import imresize

import make_networks
from gcfsr_arch import GCFSRError, load_generator
from gcfsr_datasets.image_io import read_image, write_image


@pytest.fixture
def portraits(tmp_path: Path) -> Path:
    """Nine 160-pixel images of rising luminance, named p0 to p8; p3 is brighter than its number."""
    folder = tmp_path / "portraits"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(9):
        level = 240 if number == 3 else 20 + 20 * number
        noise = rng.integers(-10, 10, (160, 160, 3))
        write_image(folder / f"p{number}.png", np.clip(level + noise, 0, 255).astype(np.uint8))
    return folder


def test_prepares_copies_equal_to_basicsr_and_holds_out_evenly(portraits: Path, tmp_path: Path) -> None:
    make_networks.prepare([portraits], tmp_path / "data", 128, 3, None, [("p4", 5), ("p*", 2)])
    held = {path.stem for path in (tmp_path / "data" / "holdout").iterdir()}
    assert held == {"p1", "p5", "p8"}  # places 1, 4 and 7 of p0 p1 p2 p4 p5 p6 p7 p8 p3
    trained = {path.stem for path in (tmp_path / "data" / "train").iterdir()}
    assert trained == {f"p{n}" for n in range(9)} - held
    lines = (tmp_path / "data" / "train.txt").read_text().split()
    assert lines.count("p4.png") == 5
    assert lines.count("p0.png") == 2
    assert not {f"{name}.png" for name in held} & set(lines)
    truth = read_image(portraits / "p0.png").bgr.astype(np.float32) / 255
    expected = np.clip(imresize(truth, 128 / 160), 0, 1) * 255
    written = read_image(tmp_path / "data" / "train" / "p0.png").bgr
    assert written.shape == (128, 128, 3)
    assert np.abs(written - expected).max() <= 0.5 + 1e-3


def test_resumes_without_writing_again(portraits: Path, tmp_path: Path) -> None:
    make_networks.prepare([portraits], tmp_path / "data", 128, 3, None, [])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.png")}
    make_networks.prepare([portraits], tmp_path / "data", 128, 3, None, [])
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.png")}


def test_holds_out_what_a_list_names(portraits: Path, tmp_path: Path) -> None:
    listed = tmp_path / "held.txt"
    listed.write_text("p2\np7\n")
    make_networks.prepare([portraits], tmp_path / "data", 128, 3, listed, [])
    assert {path.stem for path in (tmp_path / "data" / "holdout").iterdir()} == {"p2", "p7"}


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: write_image(folder / "wide.png", np.zeros((128, 130, 3), np.uint8)), "wide.png: 130x128"),
        (lambda folder: (folder / "held.txt").write_text("nobody\n"), "nobody is not among the images"),
        (
            lambda folder: [p.unlink() for p in sorted(folder.glob("p*.png"))[:7]],
            "2 images of 128 pixels; more than the 3",
        ),
    ],
)
def test_reports_what_is_wrong_with_the_data(portraits: Path, tmp_path: Path, break_it, message: str) -> None:
    break_it(portraits)
    listed = portraits / "held.txt"
    with pytest.raises(GCFSRError, match=message):
        make_networks.prepare([portraits], tmp_path / "data", 128, 3, listed if listed.exists() else None, [])


def test_boost_is_a_pattern_and_a_number() -> None:
    assert make_networks.boost("a=b_*=8") == ("a=b_*", 8)
    for wrong in ("real_*", "real_*=0", "=3", "real_*=x"):
        with pytest.raises(argparse.ArgumentTypeError):
            make_networks.boost(wrong)


def test_smaller_images_are_left_out(portraits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(portraits / "tiny.png", np.zeros((64, 64, 3), np.uint8))
    make_networks.prepare([portraits], tmp_path / "data", 128, 3, None, [])
    assert "1 images are smaller than 128 pixels" in capsys.readouterr().out
    assert not (tmp_path / "data" / "train" / "tiny.png").exists()


@pytest.mark.parametrize("name", make_networks.NETWORKS)
def test_a_stage_starts_from_the_one_before(root: Path, tmp_path: Path, name: str) -> None:
    network = make_networks.NETWORKS[name]
    paths = make_networks.Paths(tmp_path, tmp_path, tmp_path / "s.pth", tmp_path / "grown", None)
    for stage in network.stages:
        options = yaml.safe_load((root / "options" / stage.options).read_text())
        assert options["name"] == stage.name
        assert options["datasets"]["train"]["out_size"] == options["network_g"]["out_size"] == network.size
        words = make_networks.command(stage, paths, 2, 0)
        before = tmp_path / str(stage.start) / "models" / "net_g_latest.pth" if stage.start else tmp_path / "grown"
        assert f"path:pretrain_network_g={before}" in words


@pytest.mark.slow
@pytest.mark.parametrize("name", make_networks.NETWORKS)
def test_all_steps_in_miniature(
    portraits: Path, tmp_path: Path, outside: dict[str, str], root: Path, name: str
) -> None:
    from torchvision.models import squeezenet1_1

    torch.save(squeezenet1_1(weights=None).state_dict(), tmp_path / "squeezenet.pth")
    for path in portraits.iterdir():  # large enough for both
        write_image(path, cv2.resize(read_image(path).bgr, (256, 256)))
    table = tmp_path / "valid.tsv"
    table.write_text("file\tcorners\np0.png\t0.2 0 1 0 1 1 0.2 1\n")
    command = [
        sys.executable, str(root / "tools" / "make_networks.py"), "--data", str(portraits), "--hold", "2",
        "--runs", str(tmp_path / "runs"), "--squeezenet", str(tmp_path / "squeezenet.pth"),
        "--ranks", "1", "--iters", "1", "--network", name, "--valid", str(table),
    ]  # fmt: skip
    done = subprocess.run(command, env=outside, capture_output=True, text=True, cwd=tmp_path, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    net = load_generator(tmp_path / "runs" / f"{name}.safetensors")
    assert net.out_size == make_networks.NETWORKS[name].size
    assert not net.blind
    assert (tmp_path / "runs" / f"report-{name}" / "report.md").exists()


def test_a_wrong_folder_is_one_line(tmp_path: Path, outside: dict[str, str], root: Path) -> None:
    command = [sys.executable, str(root / "tools" / "make_networks.py"), "--data", str(tmp_path / "none")]
    done = subprocess.run(command, env=outside, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("gcfsr: error: ")
    assert "none" in done.stderr
    assert len(done.stderr.splitlines()) == 1
