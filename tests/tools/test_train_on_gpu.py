"""The adversarial stage from one file of faces, in miniature on the CPU: packed, trained, continued, stopped."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.models import squeezenet1_1

import train_on_gpu
from gcfsr_arch.errors import GCFSRError, exit_status

TINY = [
    "network_g:narrow=0.0625", "network_g:num_style_feat=16", "network_d:channels=4", "train:engine:amp=~",
    "logger:save_checkpoint_freq=2", "datasets:train:balance_luminance=false", "datasets:train:luminance_cache=~",
]  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six packed faces of 32 pixels."""
    rng, folder = np.random.default_rng(0), tmp_path / "faces"
    folder.mkdir()
    for number in range(6):
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(coarse, (64, 64), interpolation=cv2.INTER_CUBIC))
    assert train_on_gpu.main(["pack", str(folder), "--size", "32", "--out", str(tmp_path / "faces.npz")]) == 0
    return tmp_path / "faces.npz"


def words(data: Path, *more: str) -> list[str]:
    folder = data.parent
    return [
        "train", "--data", str(data), "--start", "~", "--squeezenet", str(folder / "squeezenet.pth"), "--runs",
        str(folder / "runs"), "--batch", "2", "--workers", "0", "--num-gpu", "0", *more,
    ]  # fmt: skip


@pytest.mark.slow
def test_a_second_call_continues(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("basicsr")
    monkeypatch.chdir(data.parent)
    torch.save(squeezenet1_1(weights=None).state_dict(), data.parent / "squeezenet.pth")
    run = data.parent / "runs" / "gcfsr_256"
    for total in (2, 4):
        assert (
            train_on_gpu.main(words(data, "--force_yml", *TINY, f"train:total_iter={total}", "train:scheduler:decay=1"))
            == 0
        )
        assert (run / "training_states" / f"{total}.state").is_file()
    logs = "".join(path.read_text() for path in run.glob("*.log"))
    assert "Resuming training from epoch: 0, iter: 2" in logs


def test_the_trainer_is_asked_to_save_when_time_is_up(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that ends as the trainer does after SIGTERM, and one that fails."""
    for ending, status in (("sys.exit(128 + signal.SIGTERM)", 0), ("sys.exit(1)", 1)):
        handler = f"import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: {ending}); time.sleep(60)"
        monkeypatch.setattr(train_on_gpu, "command", lambda *_, handler=handler: [sys.executable, "-c", handler])
        assert train_on_gpu.main(words(data, "--minutes", "0.1")) == status


def test_a_file_of_at_most_64_mib(data: Path, tmp_path: Path) -> None:
    assert train_on_gpu.pack(tmp_path / "faces", 32, tmp_path / "small.npz", limit=2 * 32 * 32 * 3 + 1) == 2
    with np.load(tmp_path / "small.npz") as arrays:
        assert arrays["faces"].shape == (2, 32, 32, 3)
    (tmp_path / "out").mkdir()
    assert train_on_gpu.unpack(data, tmp_path / "out") == 32
    assert len(list((tmp_path / "out").glob("*.png"))) == 6


@pytest.mark.parametrize("kind", ["text", "shape", "pickle"])
def test_another_file_is_one_line(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "faces.npz"
    if kind == "text":
        path.write_text("no array")
    else:
        np.savez(path, faces=np.zeros(3) if kind == "shape" else np.array([{}], dtype=object))
    with pytest.raises(GCFSRError, match=r"--data .*faces\.npz"):
        train_on_gpu.unpack(path, tmp_path)
    assert exit_status(lambda: train_on_gpu.main(words(path))) == 2
    assert capsys.readouterr().err.count("\n") == 1
