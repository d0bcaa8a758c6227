"""Whole runs that are stopped by signals, or asked to resume from something odd."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from gcfsr_arch.training import curves

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_finishes_the_iteration_saves_and_prints_how_to_resume(runs: Any, number: int, status: int) -> None:
    """The signal goes to the workers too, as a terminal or a batch system sends it."""
    workers = {"datasets__train__num_worker_per_gpu": 2, "datasets__train__persistent_workers": True}
    file = runs.options(train__total_iter=400, logger__save_checkpoint_freq=100, val__val_freq=500, **workers)
    runs.start(file)
    runs.until("tiny 5/400")
    os.killpg(runs.pid, number)
    assert runs.wait() == status
    text = runs.text()
    assert "Traceback" not in text
    (iteration,) = runs.checkpoints()
    assert f"after iteration {iteration}; saved to" in text
    assert text.rstrip().endswith("--auto_resume")
    assert f"tiny {iteration}/400" in text
    assert f"tiny {iteration + 1}/400" not in text
    runs.options(train__total_iter=iteration + 2, logger__save_checkpoint_freq=100, val__val_freq=500)
    assert runs.run(file, "--auto_resume", log="resumed") == 0
    assert f"tiny {iteration + 1}/{iteration + 2}" in runs.text("resumed")


def test_resuming_from_odd_things(runs: Any) -> None:
    file = runs.options(train__total_iter=9, val=None, datasets__val=None, logger__keep_last=2)
    assert runs.run(file, "--auto_resume") == 0
    assert "a new run begins" in runs.text()
    assert runs.checkpoints() == [6, 9]
    states = runs.folder / "experiments/tiny/training_states"

    (states / "9.state").write_bytes((states / "9.state").read_bytes()[:-500])
    assert runs.run(file, "--auto_resume", log="damaged") == 0
    assert "9.state: damaged" in runs.text("damaged")
    assert "resumes from" in runs.text("damaged")
    assert "tiny 7/9" in runs.text("damaged")
    assert "tiny 6/9" not in runs.text("damaged")

    (runs.folder / "experiments/tiny/models/net_d_9.pth").unlink()
    own_copy = "experiments/tiny/tiny.yml"  # BasicSR's copy of the option file
    assert runs.run(own_copy, "--auto_resume", log="missing network") == 0
    assert "net_d_9.pth: is missing" in runs.text("missing network")

    runs.options(path__resume_state="nowhere/5.state", train__total_iter=9)
    assert runs.run(file, log="nothing") == 2
    assert "nowhere/5.state: there is no such training state" in runs.text("nothing")

    for state in states.glob("*.state"):
        state.write_bytes(b"")
    runs.options(train__total_iter=9)
    assert runs.run(file, "--auto_resume", log="all damaged") == 2
    assert "finds no valid checkpoint" in runs.text("all damaged")
    for log in ("damaged", "missing network", "nothing", "all damaged"):
        assert "Traceback" not in runs.text(log)


def test_another_option_file_and_a_second_run_are_refused(runs: Any) -> None:
    file = runs.options(train__total_iter=3)
    assert runs.run(file) == 0
    state = str(runs.folder / "experiments/tiny/training_states/3.state")
    runs.options("wider.yml", name="wider", network_g__num_style_feat=16, path__resume_state=state)
    assert runs.run("wider.yml", log="wider") == 2
    assert "net_g_3.pth" in runs.text("wider")
    runs.options("no_gan.yml", name="nogan", network_d=None, train__gan_opt=None, path__resume_state=state)
    assert runs.run("no_gan.yml", log="nogan") == 2
    assert "another option file" in runs.text("nogan")

    runs.options(train__total_iter=10_000)
    runs.start(file, "--auto_resume", log="first")
    runs.until("tiny 4/", log="first")
    script = find_spec("basicsr.train").origin
    second = subprocess.run([sys.executable, script, "-opt", file], cwd=runs.folder, capture_output=True, text=True)
    assert runs.kill() == -signal.SIGKILL
    assert second.returncode == 2
    assert f"process {runs.pid} of" in second.stderr
    assert "Traceback" not in second.stderr


def test_tensorboard_and_metrics_resume_without_duplicates(runs: Any) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    file = runs.options(train__total_iter=12)
    runs.start(file)
    runs.until("tiny 8/12")
    runs.kill()
    time.sleep(1.1)  # the names of event files differ by the second
    assert runs.run(file, "--auto_resume") == 0
    run = runs.folder / "experiments/tiny"
    rows = [json.loads(line) for line in (run / curves.NAME).read_text().splitlines()]
    assert [row["iter"] for row in rows if "losses" in row] == list(range(1, 13))
    assert [row["iter"] for row in rows if "metrics" in row] == [6, 12, 12]
    events = accumulator.EventAccumulator(str(runs.folder / "experiments/tb_logger/tiny"))
    events.Reload()
    steps = [event.step for event in events.Scalars("losses/l_g_pix")]
    assert steps == list(range(1, 13))
    state = torch.load(run / "training_states/12.state", weights_only=True)
    assert state["gcfsr"]["best"]["val"]["psnr"]["iter"] in (6, 12)


def logged_rates(runs: Any) -> dict[int, float]:
    """Iteration -> the learning rate that was logged last for it."""
    lines = (runs.folder / "experiments/tiny" / curves.NAME).read_text().splitlines()
    return {row["iter"]: row["lr"] for row in map(json.loads, lines) if "lr" in row}


def test_a_finished_run_is_extended_and_follows_its_changed_options(runs: Any) -> None:
    """The cases train_t1.yml and train_t1b_extended.yml, and another learning rate, weight decay and schedule."""
    cosine = {"type": "CosineAnnealingRestartLR", "periods": [6], "restart_weights": [1], "eta_min": 1e-4}
    short = {"val": None, "datasets__val": None, "train__scheduler": cosine}
    assert runs.run(runs.options(train__total_iter=6, **short)) == 0, runs.text()[-2000:]

    file = runs.options(train__total_iter=9, **{**short, "train__scheduler": {**cosine, "periods": [9]}})
    assert runs.run(file, "--auto_resume", log="extended") == 0, runs.text("extended")[-2000:]
    assert sorted(logged_rates(runs)) == list(range(1, 10))
    expected = [1e-4 + (2e-3 - 1e-4) * 0.5 * (1 + math.cos(math.pi * done / 9)) for done in (6, 7, 8)]
    assert [logged_rates(runs)[n] for n in (7, 8, 9)] == pytest.approx(expected)

    changes = {"train__scheduler": None, "train__optim_g": {"type": "Adam", "lr": 5e-4, "weight_decay": 0.1}}
    assert runs.run(runs.options(train__total_iter=12, **{**short, **changes}), "--auto_resume", log="changed") == 0
    assert [logged_rates(runs)[n] for n in (10, 11, 12)] == pytest.approx([5e-4] * 3)
    state = torch.load(runs.folder / "experiments/tiny/training_states/12.state", weights_only=True)
    (group,) = state["optimizers"][0]["param_groups"]
    assert (group["lr"], group["weight_decay"]) == (5e-4, 0.1)
    assert state["optimizers"][0]["state"][0]["step"] == 12, "the moments were not taken over"

    file = runs.options(train__total_iter=20, **{**short, "train__scheduler": cosine})
    assert runs.run(file, "--auto_resume", log="too short") == 2
    assert "train.scheduler.periods: end after 6 iterations, before train.total_iter 20" in runs.text("too short")


def test_a_resumed_run_takes_a_smaller_batch_another_metric_and_an_unused_discriminator(runs: Any) -> None:
    """12 images are an epoch of one iteration, then of 6: 10 iterations are fewer epochs than the run has had."""
    metrics = {kind: {"type": f"calculate_{kind}", "crop_border": 0} for kind in ("psnr", "ssim")}
    both = {"val__val_freq": 8, "logger__save_checkpoint_freq": 8, "train__gan_opt": None}
    file = runs.options(train__total_iter=8, datasets__train__batch_size_per_gpu=12, **both)
    assert runs.run(file) == 0, runs.text()[-2000:]
    runs.options(train__total_iter=10, val__metrics=metrics, **both)
    assert runs.run(file, "--auto_resume", log="resumed") == 0, runs.text("resumed")[-2000:]
    assert sorted(logged_rates(runs)) == list(range(1, 11))
    rows = curves.read(runs.folder / "experiments/tiny")
    assert [set(row["metrics"]) for row in rows if "metrics" in row] == [{"psnr"}, {"psnr"}, {"psnr", "ssim"}]
