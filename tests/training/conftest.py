"""Tiny training runs through the stock train.py, started without waiting for imports."""

import copy
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

IMAGES = 14
TINY = """
name: tiny
model_type: GCFSRModel
num_gpu: 0
manual_seed: 7
datasets:
  train:
    {name: faces, type: MultiFactorDegradationDataset, dataroot_gt: faces, out_size: 32, max_factor: 32,
     factor_range: [4, 16], use_hflip: true, num_worker_per_gpu: 0, batch_size_per_gpu: 2}
  val: {name: val, type: MultiFactorDegradationDataset, dataroot_gt: val, out_size: 32, max_factor: 32, factor: 4}
network_g: {type: GCFSR, variant: paper, out_size: 32, num_style_feat: 32, narrow: 0.0625}
network_d: {type: GCFSRDiscriminator, out_size: 32, narrow: 0.0625}
path: {}
train:
  total_iter: 20
  optim_g: {type: Adam, lr: 2e-3}
  optim_d: {type: Adam, lr: 2e-3}
  scheduler: {type: MultiStepLR, milestones: [10], gamma: 0.5}
  pixel_opt: {type: L1Loss, loss_weight: 1}
  gan_opt: {type: GANLoss, gan_type: wgan_softplus, loss_weight: 1e-2}
  r1_reg_weight: 10
  net_d_reg_every: 4
  ema_decay: 0.9
val: {val_freq: 6, metrics: {psnr: {type: calculate_psnr, crop_border: 0}}}
logger: {print_freq: 1, save_checkpoint_freq: 3, use_tb_logger: true}
"""
BLIND = {
    "name": "faces", "type": "BlindFaceDegradationDataset", "dataroot_gt": "faces", "out_size": 32, "use_hflip": True,
    "num_worker_per_gpu": 0, "batch_size_per_gpu": 2, "color_jitter_prob": 0.5, "color_jitter_pt_prob": 0.5,
}  # fmt: skip


class Runs:
    """Runs of one folder: options, starting, waiting, killing."""

    def __init__(self, folder: Path, server: subprocess.Popen) -> None:
        self.folder, self.server = folder, server
        self.pid, self.running = 0, False

    def options(self, file: str = "tiny.yml", blind: bool = False, **changes: Any) -> str:
        """Writes the tiny option file with `block__key=value` changes (None removes) and returns its name."""
        options = yaml.safe_load(TINY)
        if blind:
            options["datasets"]["train"] = copy.deepcopy(BLIND)
            options["network_g"]["blind"] = True
        for path, value in changes.items():
            *blocks, last = path.split("__")
            place = options
            for block in blocks:
                place = place[block]
            place.pop(last, None) if value is None else place.update({last: value})
        (self.folder / file).write_text(yaml.safe_dump(options, sort_keys=False))
        return file

    def start(self, file: str, *arguments: str, log: str = "log") -> int:
        """Starts the stock train.py in a process of its own and returns its id."""
        run = {"argv": ["-opt", file, *arguments], "cwd": str(self.folder), "log": str(self.folder / log)}
        self.server.stdin.write(json.dumps(run) + "\n")
        self.server.stdin.flush()
        self.pid, self.running = int(self.server.stdout.readline()), True
        return self.pid

    def wait(self) -> int:
        """The exit status of the run that was started last."""
        status = int(self.server.stdout.readline())
        self.running = False
        return status

    def run(self, file: str, *arguments: str, log: str = "log") -> int:
        """Starts and waits."""
        self.start(file, *arguments, log=log)
        return self.wait()

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Sends a signal to the running one and returns its exit status."""
        with suppress(ProcessLookupError):  # it may just have ended
            os.kill(self.pid, number)
        return self.wait()

    def text(self, log: str = "log") -> str:
        """The log."""
        path = self.folder / log
        return path.read_text() if path.exists() else ""

    def until(self, words: str, log: str = "log") -> None:
        """Waits until the log holds the words."""
        end = time.monotonic() + 300
        while words not in self.text(log):
            assert time.monotonic() < end, f"{words!r} never came:\n{self.text(log)[-3000:]}"
            time.sleep(0.005)

    def checkpoints(self, name: str = "tiny") -> list[int]:
        """Iterations that have a state."""
        folder = self.folder / "experiments" / name / "training_states"
        return sorted(int(path.stem) for path in folder.glob("*.state"))


@pytest.fixture(scope="session")
def fork_server() -> Iterator[subprocess.Popen]:
    """The process that forks runs."""
    pytest.importorskip("basicsr")
    script = Path(__file__).with_name("fork_server.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert server.stdout is not None
    while server.stdout.readline() not in ("ready\n", ""):
        pass
    yield server
    server.stdin.close()
    server.wait(timeout=60)


@pytest.fixture(scope="session")
def make_runs(tmp_path_factory: pytest.TempPathFactory, fork_server: subprocess.Popen) -> Callable[[], Runs]:
    """Makes folders with small images, and the stock trainer in them."""

    def make() -> Runs:
        folder, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
        for number in range(IMAGES):
            small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            place = folder / ("faces" if number < IMAGES - 2 else "val")
            place.mkdir(exist_ok=True)
            image = cv2.resize(small, (32, 32), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(place / f"{number:02d}.png"), image)
        return Runs(folder, fork_server)

    return make


@pytest.fixture
def runs(make_runs: Callable[[], Runs]) -> Iterator[Runs]:
    """One such folder; a run that a failed test left behind is killed."""
    made = make_runs()
    yield made
    if made.running:
        made.kill()


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The functions of tiny_step.py: a tiny model, its batches, its steps."""
    pytest.importorskip("basicsr")
    spec = importlib.util.spec_from_file_location("tiny_step", Path(__file__).with_name("tiny_step.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def good_text() -> str:
    """An option file without a fault."""
    return Path(__file__).with_name("good.yml").read_text(encoding="utf-8")


@pytest.fixture
def good(good_text: str) -> dict[str, Any]:
    """Its options."""
    return yaml.safe_load(good_text)
