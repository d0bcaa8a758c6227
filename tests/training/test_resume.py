"""The parts of an exact resume, and runs that are stopped by signals or asked to resume from something odd."""

import collections
import logging
import math
import os
import random
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset

pytest.importorskip("basicsr")

from basicsr.utils import get_root_logger

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.training import curves, loaders
from gcfsr_arch.training.checkpoints import save_atomic
from gcfsr_arch.training.loaders import Keyed, Position, Sampler, Schedule, TrainLoader
from gcfsr_arch.training.randomness import random_state, seeded, set_random_state
from gcfsr_arch.training.resume import Content, Saver, plain
from gcfsr_arch.training.workers import read_ahead, worker_death

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
    sampler = Sampler(dataset, world, rank, more.pop("ratio", 1), start[0], start[1] // world)
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
    stop_again=st.integers(0, 10), ratio=st.sampled_from([1, 2, 1.5]),
)  # fmt: skip
def test_resuming_gives_the_remaining_batches(
    length: int, batch: int, world: int, stop: int, stop_again: int, ratio: float
) -> None:
    per_rank = math.ceil(length * ratio / world)
    if per_rank < batch:
        return
    for rank in range(world):
        whole = list(batches(length, batch, world=world, rank=rank, ratio=ratio))
        schedule = Schedule(batch * world, per_rank * world)
        for more in (stop, stop_again):  # killed, resumed, killed again
            at = min(schedule.start.iteration + more, len(whole))
            schedule = Schedule(batch * world, per_rank * world, schedule.after(at))
            _, epoch, samples = schedule.start
            left = list(batches(length, batch, world=world, rank=rank, ratio=ratio, start=(epoch, samples)))
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


def test_another_batch_size_resumes_at_the_same_sample() -> None:
    whole = [index for epoch, (_, indices) in batches(12, 1) if epoch == 0 for index in indices]
    left = [index for epoch, (_, indices) in batches(12, 4, start=(0, 4)) if epoch == 0 for index in indices]
    assert left == whole[4:]


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 4), length=st.integers(8, 16), stop=st.integers(0, 8),
    new_batch=st.integers(1, 8), new_length=st.integers(8, 40),
)  # fmt: skip
def test_the_place_is_known_after_a_resume_with_another_batch_or_data_set(
    batch: int, length: int, stop: int, new_batch: int, new_length: int
) -> None:
    start = Schedule(batch, length).after(stop)
    schedule, used = Schedule(new_batch, new_length, start), collections.Counter({start.epoch: start.samples})
    left = batches(new_length, new_batch, start=(start.epoch, start.samples))
    for iteration, (epoch, _) in enumerate(left, stop + 1):
        used[epoch] += new_batch
        assert schedule.after(iteration) == (iteration, epoch, used[epoch])


@pytest.mark.parametrize("used", range(7))
def test_ranks_that_resume_a_single_process_know_their_place(used: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the samples used do not divide by the ranks, the first epoch has as many batches as the schedule says."""
    monkeypatch.setattr(loaders, "checked_dataset", lambda options: Numbers(6))
    train = {"name": "x", "batch_size_per_gpu": 1, "num_worker_per_gpu": 0}
    for rank in range(2):
        opt = {"world_size": 2, "rank": rank, "manual_seed": 0}
        loader, sampler, schedule = loaders.train_loader(opt, train, Position(used, 0, used))
        left = len(list(loader))
        assert [schedule.after(used + step).epoch for step in (left, left + 1)] == [0, 1]
        sampler.set_epoch(1)
        assert len(list(loader)) == 3


@pytest.mark.parametrize(("length", "batch"), [(12, 12), (12, 2), (240, 12)])
def test_a_resumed_run_has_epochs_until_its_last_iteration(
    length: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its 24 epochs so far had one iteration each; BasicSR's loop counts on from there."""
    monkeypatch.setattr(loaders, "checked_dataset", lambda options: Numbers(length))
    train = {"name": "x", "batch_size_per_gpu": batch, "num_worker_per_gpu": 0}
    opt = {"world_size": 1, "rank": 0, "num_gpu": 0, "dist": False, "manual_seed": 0, "datasets": {"train": train}}
    made = loaders.create_train_val_dataloader(
        opt | {"train": {"total_iter": 40}}, logging.getLogger("x"), Position(24, 23, 12)
    )
    loader, sampler, _, epochs, total, _ = made
    iteration = 24
    for epoch in range(23, epochs + 1):
        sampler.set_epoch(epoch)
        iteration += len(list(loader))
    assert iteration >= total


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


def test_a_killed_worker_is_reported_and_not_waited_for() -> None:
    with pytest.raises(RuntimeError) as caught:
        next(batches(4, 2, workers=1, dataset=Killed(4)))
    assert "a worker died" in str(worker_death(caught.value))
    assert worker_death(RuntimeError("another")) is None


def test_a_killed_worker_is_reported_when_it_stops_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    class Interrupted(Saver):
        def _write_files(self, *_: Any) -> None:
            save_atomic({}, tmp_path / "15.state")

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(GCFSRError, match=r"cannot be written: .*; no checkpoint has been saved yet") as caught:
        Interrupted({"rank": 0}, lambda: Content({}, [], {}, {})).save(0, 15)
    assert "a worker died" in str(worker_death(caught.value))


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.RMSprop])
def test_another_optimiser_says_that_it_begins_without_the_saved_moments(
    kind: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    first, again = torch.optim.Adam([weight]), kind([weight])
    weight.grad = torch.ones(3)
    first.step()
    folder = str(tmp_path)
    opt = {"rank": 0, "datasets": {}, "path": {"models": folder, "training_states": folder}}
    saver = Saver(opt, lambda: Content({}, [first], {}, {}))
    saver.save(0, 5)
    state = torch.load(tmp_path / "5.state", weights_only=True)
    get_root_logger().propagate = True
    saver.resume(state, [again])
    said = "The state is of Adam: RMSprop begins without it." in caplog.text
    assert (len(again.state) == 1, said) == ((True, False) if kind is torch.optim.Adam else (False, True))


def test_samples_are_written_as_the_network_sees_them(faces: Path, tmp_path: Path) -> None:
    block = {"name": "x", "type": "MultiFactorDegradationDataset", "dataroot_gt": str(faces), "out_size": 32}
    block |= {"phase": "train", "factors": [4], "use_hflip": True, "batch_size_per_gpu": 2, "num_worker_per_gpu": 0}
    made, _, _ = loaders.train_loader({"world_size": 1, "rank": 0, "manual_seed": 0}, block)
    loaders.save_samples(made, 5, tmp_path / "run" / "samples.png")
    image = cv2.imread(str(tmp_path / "run" / "samples.png")).astype(np.float32)
    first = next(iter(made))
    for n in range(2):
        for row, key in enumerate(("lq", "gt")):
            part = image[32 * row : 32 * row + 32, 32 * n : 32 * n + 32, ::-1].transpose(2, 0, 1)
            assert np.abs(part - (first[key][n].numpy().clip(-1, 1) + 1) * 127.5).max() <= 0.51
    assert image.shape == (64, 5 * 32, 3)


class Threads(Numbers):
    def at(self, epoch: int, index: int) -> tuple[int, int]:
        import cv2

        return cv2.getNumThreads(), os.getpid()


@pytest.mark.parametrize("keep", [None, True, False])
def test_workers_are_kept_and_leave_opencv_one_thread(keep: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "checked_dataset", lambda options: Threads(8))
    block = {"name": "x", "batch_size_per_gpu": 4, "num_worker_per_gpu": 1}
    block |= {} if keep is None else {"persistent_workers": keep}
    made, _, _ = loaders.train_loader({"world_size": 1, "rank": 0, "manual_seed": 0}, block)
    of_two_epochs = [one for _ in range(2) for one in made]
    threads, processes = (set(torch.cat(parts).tolist()) for parts in zip(*of_two_epochs, strict=True))
    assert threads == {1}
    assert len(processes) == (2 if keep is False else 1)
    assert os.getpid() not in processes


# ---------------------------------------------------------------- randomness


def draws() -> list[Any]:
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(3).tolist()]


def test_random_state_goes_through_a_file(tmp_path: Path) -> None:
    draws()  # odd numbers of Gaussians leave one in store
    torch.save(random_state(), tmp_path / "state")
    expected = [draws() for _ in range(3)]
    set_random_state(torch.load(tmp_path / "state", weights_only=True))
    assert [draws() for _ in range(3)] == expected


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_random_state_holds_cuda_s_generators(tmp_path: Path) -> None:
    torch.rand(3, device="cuda")
    torch.save(random_state(), tmp_path / "state")
    expected = torch.randn(5, device="cuda")
    set_random_state(torch.load(tmp_path / "state", map_location="cpu", weights_only=True))
    assert torch.equal(torch.randn(5, device="cuda"), expected)


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
