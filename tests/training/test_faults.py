"""What people do wrong and what machines do to them: one clear line, exit status 2; the table is docs/faults.md."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

pytestmark = pytest.mark.slow


def fails(runs: Any, *words: str, log: str = "log", **changes: Any) -> str:
    """Runs changed options, which must fail clearly, with all of the words; returns the error lines."""
    assert runs.run(runs.options(**changes), log=log) == 2, runs.text(log)[-3000:]
    text = runs.text(log)
    assert "Traceback" not in text
    errors = "\n".join(line for line in text.splitlines() if line.startswith("gcfsr: error: "))
    for word in words:
        assert word in errors, text[-2000:]
    return errors


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train__totl_iter": 5, "network_g__narow": 1}, ("'total_iter'", "'narrow'", "network_g.narow")),
        ({"model_type": "GCFSRModle"}, ("model_type", "'GCFSRModel'")),
        ({"network_g__type": "GCFS"}, ("network_g.type", "'GCFSR'")),
        ({"datasets__train__type": "MultiFactorDataset"}, ("datasets.train.type", "'MultiFactorDegradationDataset'")),
        ({"network_g__out_size": 48}, ("network_g.out_size", "power of two")),
        ({"datasets__train__batch_size_per_gpu": 40}, ("batch_size_per_gpu", "40 samples make a batch", "has 12")),
        ({"datasets__train__dataroot_gt": "nowhere"}, ("nowhere",)),
        ({"datasets__val__dataroot_gt": "empty"}, ("empty",)),
        (
            {"datasets__val__out_size": 64, "network_g__out_size": 64, "network_d__out_size": 64},
            ("datasets.train.out",),
        ),
        ({"path__pretrain_network_g": "nowhere.pth"}, ("nowhere.pth",)),
        pytest.param(
            {"num_gpu": 1},
            ("num_gpu", "no CUDA device"),
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
        ({"train__pixel_opt": None, "train__gan_opt": None}, ("has no loss",)),
        ({"path__experiments_root": "tiny.yml/runs"}, ("path.experiments_root", "cannot be made")),
    ],
)
def test_options_and_folders(runs: Any, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    (runs.folder / "empty").mkdir()
    errors = fails(runs, *words, **changes)
    assert len(errors.splitlines()) >= (2 if len(changes) == 2 and "train__totl_iter" in changes else 1)


@pytest.mark.parametrize("kind", ["garbage", "truncated", "not square", "small"])
def test_images_at_the_start(runs: Any, kind: str) -> None:
    path = runs.folder / "faces" / "05.png"
    content = path.read_bytes()
    if kind in ("garbage", "truncated"):
        path.write_bytes(b"no image" if kind == "garbage" else content[:20])
    else:
        cv2.imwrite(str(path), np.zeros((32, 20, 3) if kind == "not square" else (16, 16, 3), np.uint8))
    fails(runs, "05.png")


def test_the_process_itself_exits_with_2(runs: Any) -> None:
    """Without the fork server, through stock train.py and `gcfsr train`."""
    file = runs.options(train__totl_iter=5)
    for command in ([find_spec("basicsr.train").origin], ["-m", "gcfsr_inference.cli", "train"]):
        done = subprocess.run([sys.executable, *command, "-opt", file], cwd=runs.folder, capture_output=True, text=True)
        assert done.returncode == 2, done.stderr
        assert done.stderr.splitlines()[-1].startswith(f"gcfsr: error: {file}: train.totl_iter: unknown key")
        assert "Traceback" not in done.stderr
        assert not (runs.folder / "experiments").exists()


def test_an_image_that_fails_in_the_middle(runs: Any) -> None:
    """It is named once, another takes its place; too many stop the run."""
    long = {"train__total_iter": 60, "val": None, "datasets__val": None}
    for share, status in ((0.5, 0), (0.01, 2)):
        log = f"share {share}"
        image = runs.folder / "faces" / "03.png"
        content = image.read_bytes()
        runs.start(runs.options(**long, datasets__train__max_bad_share=share), log=log)
        runs.until("tiny 2/60", log=log)
        image.write_bytes(b"no image")
        assert runs.wait() == status, runs.text(log)[-2000:]
        text = runs.text(log)
        assert "03.png" in text
        assert "Traceback" not in text
        assert ("skipped: " in text) == (status == 0)
        assert "1 of 12 images failed" in text
        image.write_bytes(content)


def test_numbers_that_are_not_finite(runs: Any) -> None:
    """Steps are skipped and reported; several in a row stop the run and name the last valid checkpoint."""
    changes = {"train__optim_g__lr": 1e30, "train__max_bad_steps": 4, "logger__save_checkpoint_freq": 1}
    errors = fails(runs, "4 steps in a row", "last valid checkpoint is", val=None, datasets__val=None, **changes)
    named = Path(errors.split("last valid checkpoint is ")[1].split(";")[0])
    assert named.is_file()
    assert "step skipped" in runs.text()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 5 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(place)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small tmpfs cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk(runs: Any, small_disk: Path) -> None:
    """The run stops, the checkpoint before is whole, and with more room the run goes on from it to the same end."""
    from gcfsr_arch.training.checkpoints import newest_valid

    errors = fails(runs, "cannot be written: No space left", "last valid", path__experiments_root=str(small_disk))
    states = small_disk / "tiny/training_states"
    found, state, faults = newest_valid(states)
    assert found is not None
    assert faults == []
    assert str(found) in errors
    assert not list(small_disk.rglob("*.partial"))
    subprocess.run(["mount", "-o", "remount,size=60m", str(small_disk)], check=True)
    file = runs.options(path__experiments_root=str(small_disk))
    assert runs.run(file, "--auto_resume", log="more room") == 0, runs.text("more room")[-2000:]
    assert f"tiny {state['iter'] + 1}/20" in runs.text("more room")
    assert newest_valid(states)[1]["iter"] == 18


def test_a_worker_that_is_killed(runs: Any) -> None:
    workers = {"datasets__train__num_worker_per_gpu": 2, "datasets__train__persistent_workers": True}
    pid = runs.start(runs.options(train__total_iter=100, **workers))
    runs.until("tiny 3/100")
    os.kill(loading_processes(pid)[0], signal.SIGKILL)
    assert runs.wait() == 2, runs.text()[-2000:]
    assert "gcfsr: error: datasets.train: a worker died" in runs.text()
    assert "Traceback" not in runs.text()


def loading_processes(pid: int) -> list[int]:
    """Ids of a process's children."""
    return [int(line) for line in subprocess.check_output(["pgrep", "-P", str(pid)], text=True).split()]


def test_a_killed_trainer_leaves_no_worker(runs: Any) -> None:
    workers = {"datasets__train__num_worker_per_gpu": 2, "datasets__train__persistent_workers": True}
    pid = runs.start(runs.options(train__total_iter=900, **workers))
    runs.until("tiny 3/900")
    workers = loading_processes(pid)
    assert len(workers) == 2
    runs.kill()
    end = time.monotonic() + 30
    while any(Path(f"/proc/{worker}/cmdline").exists() for worker in workers):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_other_models_keep_basicsr_s_behaviour(runs: Any) -> None:
    """A misspelt key of an SRModel is ignored as BasicSR does, and its run goes where BasicSR puts it."""
    options = """
name: plain
model_type: SRModel
scale: 1
num_gpu: 0
manual_seed: 0
datasets:
  train: {name: f, type: PairedImageDataset, dataroot_gt: faces, dataroot_lq: faces, io_backend: {type: disk},
          gt_size: 16, use_hflip: true, use_rot: false, num_worker_per_gpu: 0, batch_size_per_gpu: 2}
network_g: {type: SRVGGNetCompact, num_in_ch: 3, num_out_ch: 3, num_feat: 4, num_conv: 1, upscale: 1}
path: {misspelt: ~}
train:
  totl_iter: 1
  total_iter: 2
  optim_g: {type: Adam, lr: 0.001}
  scheduler: {type: MultiStepLR, milestones: [5]}
  pixel_opt: {type: L1Loss, loss_weight: 1}
logger: {print_freq: 1, save_checkpoint_freq: 1, use_tb_logger: false}
"""
    package = shutil.copytree(Path(find_spec("basicsr.train").origin).parent, runs.folder / "source/basicsr")
    (runs.folder / "plain.yml").write_text(options.replace("path: {misspelt: ~}", "path: {}"))
    done = subprocess.run(
        [sys.executable, str(package / "train.py"), "-opt", "plain.yml"], cwd=runs.folder, text=True,
        capture_output=True, env=os.environ | {"PYTHONPATH": str(package.parent), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "[plain..][epoch:  0, iter:       2" in done.stderr
    state = runs.folder / "source/experiments/plain/training_states/2.state"
    import torch

    assert torch.load(state, weights_only=False).keys() == {"epoch", "iter", "optimizers", "schedulers"}


def test_the_table_names_tests_that_exist(root: Path) -> None:
    named = re.findall(r"`((?:tests/)?[\w/]*test_\w+\.py)::(test_\w+)`", (root / "docs/faults.md").read_text())
    assert len(named) >= 30
    for file, test in named:
        path = root / (file if "/" in file else f"tests/training/{file}")
        assert f"def {test}(" in path.read_text(), f"{file}::{test}"
