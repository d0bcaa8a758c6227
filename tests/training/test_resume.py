"""The parts of an exact resume, and runs that are stopped by signals or asked to resume from something odd."""

import collections
import json
import os
import random
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset

pytest.importorskip("basicsr")

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.training import curves
from gcfsr_arch.training.loaders import Keyed, Sampler, Schedule, TrainLoader, read_ahead, told_loading_fault
from gcfsr_arch.training.randomness import random_state, seeded, set_random_state
from gcfsr_arch.training.resume import plain

# ---------------------------------------------------------------- where in the data


class Numbers(Dataset):
    """Returns the epoch and the index it was asked for."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def at(self, epoch: int, index: int) -> tuple[int, int]:
        return epoch, index


class Dice(Dataset):
    """A data set as BasicSR's are: draws from the global generators."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]


def batches(length: int, batch: int, workers: int = 0, start: tuple[int, int] = (0, 0), **more: Any) -> Any:
    """Batches of four epochs as BasicSR's loop asks for them, from (epoch, samples) on, each with its epoch."""
    dataset = more.pop("dataset", None) or Numbers(length)
    world, rank = more.pop("world", 1), more.pop("rank", 0)
    sampler = Sampler(dataset, world, rank, 1, start[0], start[1] // world)
    loader = TrainLoader(
        Keyed(dataset, 0),
        batch_size=batch,
        sampler=sampler,
        drop_last=True,
        num_workers=workers,
        generator=torch.Generator(),
        **more,
    )
    iter(loader)  # BasicSR's prefetcher makes one that it never uses
    for epoch in range(start[0], 4):
        sampler.set_epoch(epoch)
        for one in loader:
            yield epoch, [tensor.tolist() for tensor in one]


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(4, 30), batch=st.integers(1, 4), world=st.integers(1, 3), stop=st.integers(0, 20),
    stop_again=st.integers(0, 10),
)  # fmt: skip
def test_going_on_gives_the_batches_that_were_left(
    length: int, batch: int, world: int, stop: int, stop_again: int
) -> None:
    per_rank = -(-length // world)
    if per_rank < batch:
        return
    for rank in range(world):
        whole = list(batches(length, batch, world=world, rank=rank))
        schedule = Schedule(batch * world, per_rank * world)
        for more in (stop, stop_again):  # killed, resumed, killed again
            at = min(schedule.iteration + more, len(whole))
            epoch, samples = schedule.after(at)
            schedule = Schedule(batch * world, per_rank * world, at, epoch, samples)
            left = list(batches(length, batch, world=world, rank=rank, start=(epoch, samples)))
            assert left == whole[at:]
            if at:
                assert epoch == whole[at - 1][0]


@pytest.mark.parametrize("options", [{"workers": 2}, {"workers": 2, "persistent_workers": True}, {"ahead": 2}])
def test_workers_threads_and_persistence_change_nothing(options: dict[str, Any]) -> None:
    assert list(batches(9, 2, **options)) == list(batches(9, 2))
    assert list(batches(9, 2, start=(1, 4), **options)) == list(batches(9, 2))[6:]


def test_samples_know_their_epoch() -> None:
    for epoch, (epochs, _) in batches(9, 3, workers=2, persistent_workers=True):
        assert set(epochs) == {epoch}


def test_a_data_set_of_global_randomness_is_exact_too() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = list(batches(12, 4, dataset=Dice()))
    assert torch.equal(torch.get_rng_state(), state)
    assert list(batches(12, 4, workers=2, dataset=Dice())) == first
    assert list(batches(12, 4, start=(1, 8), dataset=Dice())) == first[5:]


def test_another_batch_size_goes_on_at_the_same_sample() -> None:
    whole = [index for epoch, (_, indices) in batches(12, 1) if epoch == 0 for index in indices]
    left = [index for epoch, (_, indices) in batches(12, 4, start=(0, 4)) if epoch == 0 for index in indices]
    assert left == whole[4:]


def test_an_error_behind_the_reading_thread_is_raised() -> None:
    def failing() -> Any:
        yield {"x": 1}
        raise GCFSRError("faces/1.png: damaged")

    with pytest.raises(GCFSRError, match="damaged"):
        list(read_ahead(failing(), 1))


class Bad(Numbers):
    def at(self, epoch: int, index: int) -> tuple[int, int]:
        raise GCFSRError("faces/1.png: damaged; remove it")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_is_its_one_line(workers: int) -> None:
    with pytest.raises(GCFSRError) as caught:
        next(batches(4, 2, workers=workers, dataset=Bad(4)))
    assert str(caught.value) == "faces/1.png: damaged; remove it"


class Killed(Numbers):
    def at(self, epoch: int, index: int) -> tuple[int, int]:
        os.kill(os.getpid(), signal.SIGKILL)
        return epoch, index


def test_a_killed_worker_is_told_and_not_waited_for() -> None:
    with pytest.raises(RuntimeError) as caught:
        next(batches(4, 2, workers=1, dataset=Killed(4)))
    assert "a loading process died" in str(told_loading_fault(caught.value))
    assert told_loading_fault(RuntimeError("another")) is None


# ---------------------------------------------------------------- randomness


def draws() -> list[Any]:
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(3).tolist()]


def test_random_state_goes_through_a_file(tmp_path: Path) -> None:
    draws()  # odd numbers of Gaussians leave one in store
    torch.save(random_state(), tmp_path / "state")
    expected = [draws() for _ in range(3)]
    set_random_state(torch.load(tmp_path / "state", weights_only=True))
    assert [draws() for _ in range(3)] == expected


def test_seeded_leaves_the_generators_alone() -> None:
    state = random_state()
    with seeded(1, 2, 3):
        first = draws()
    with seeded(1, 2, 3):
        assert draws() == first
    with seeded(1, 2, 4):
        assert draws() != first
    after = random_state()
    assert after["python"] == state["python"]
    assert torch.equal(after["torch"], state["torch"])
    assert torch.equal(after["numpy"][1], state["numpy"][1])


def test_plain_has_nothing_that_a_safe_reader_refuses(tmp_path: Path) -> None:
    value = {"counter": collections.Counter([3, 3]), "number": np.float64(0.1), "pair": (1, np.int64(2))}
    torch.save(plain(value), tmp_path / "x")
    assert torch.load(tmp_path / "x", weights_only=True) == {"counter": {3: 2}, "number": 0.1, "pair": [1, 2]}


# ---------------------------------------------------------------- metrics.jsonl


def test_curves_forget_what_comes_after_and_survive_a_cut(tmp_path: Path) -> None:
    for iteration in range(1, 6):
        curves.append(
            tmp_path, {"iter": iteration, "losses": {"l": float("nan") if iteration == 2 else 0.1 * iteration}}
        )
    with open(tmp_path / curves.NAME, "a") as file:
        file.write('{"iter": 6, "los')
    assert [row["iter"] for row in curves.read(tmp_path)] == [1, 2, 3, 4, 5]
    assert curves.read(tmp_path)[1]["losses"]["l"] is None
    curves.forget_after(tmp_path, 3)
    curves.append(tmp_path, {"iter": 4, "losses": {}})
    assert [row["iter"] for row in curves.read(tmp_path)] == [1, 2, 3, 4]
    with pytest.raises(GCFSRError, match="no such file"):
        curves.read(tmp_path / "elsewhere")


# ---------------------------------------------------------------- whole runs


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_finishes_the_iteration_saves_and_says_how_to_go_on(runs: Any, number: int, status: int) -> None:
    file = runs.options(train__total_iter=400, logger__save_checkpoint_freq=100, val__val_freq=500)
    runs.start(file)
    runs.until("tiny 5/400")
    assert runs.kill(number) == status
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


@pytest.mark.slow
def test_resuming_from_odd_things(runs: Any) -> None:
    file = runs.options(train__total_iter=9, val=None, datasets__val=None, logger__keep_last=2)
    assert runs.run(file, "--auto_resume") == 0
    assert "a new run begins" in runs.text()
    assert runs.checkpoints() == [6, 9]
    states = runs.folder / "experiments/tiny/training_states"

    (states / "9.state").write_bytes((states / "9.state").read_bytes()[:-500])
    assert runs.run(file, "--auto_resume", log="damaged") == 0
    assert "9.state: damaged" in runs.text("damaged")
    assert "goes on from" in runs.text("damaged")
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
    assert "finds no sound checkpoint" in runs.text("all damaged")
    for log in ("damaged", "missing network", "nothing", "all damaged"):
        assert "Traceback" not in runs.text(log)


@pytest.mark.slow
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


@pytest.mark.slow
def test_tensorboard_and_metrics_go_on_without_doubles(runs: Any) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    file = runs.options(train__total_iter=12)
    runs.start(file)
    runs.until("tiny 8/12")
    runs.kill()
    time.sleep(1.1)  # event files are told apart by their second
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
