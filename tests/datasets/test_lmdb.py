"""One environment per process and LMDB: threads, two data sets, links, forked workers."""

import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from gcfsr_datasets import image_source
from gcfsr_datasets.image_source import LmdbSource, environment_of

lmdb = pytest.importorskip("lmdb")
COUNT = 24


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """An LMDB whose value of key n is n in decimal."""
    folder = tmp_path / "faces.lmdb"
    with lmdb.open(str(folder), map_size=2**20) as environment, environment.begin(write=True) as transaction:
        for n in range(COUNT):
            transaction.put(str(n).encode(), b"value %d" % n)
    return folder


def source(folder: Path) -> LmdbSource:
    return LmdbSource(str(folder), [str(n) for n in range(COUNT)])


def values(read: LmdbSource) -> list[bytes]:
    return [read.read(n) for n in range(COUNT)]


def test_threads_that_start_together_share_one_environment(base: Path) -> None:
    """The case of `lmdb_threads.py`: 15 to 40% of starts failed."""
    for _ in range(50):
        made, barrier = source(base), threading.Barrier(4)

        def read(n: int, made: LmdbSource = made, barrier: threading.Barrier = barrier) -> bytes:
            if n < 4:
                barrier.wait()
            return made.read(n)

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(read, range(COUNT))) == [b"value %d" % n for n in range(COUNT)]


def test_two_data_sets_on_one_lmdb_also_through_a_link(base: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.lmdb"
    link.symlink_to(base)
    first, second, third = source(base), source(link), source(tmp_path / "x" / ".." / "faces.lmdb")
    (tmp_path / "x").mkdir()
    assert values(first) == values(second) == values(third)
    assert environment_of(str(base)) is environment_of(str(link))


def test_the_environment_is_closed_with_its_last_source(base: Path) -> None:
    first, second = source(base), source(base)
    values(first)
    values(second)
    del first
    assert values(second)[0] == b"value 0"
    del second
    lmdb.open(str(base), readonly=True, lock=False).close()  # raises while it is open in this process


class Values(Dataset):
    def __init__(self, made: LmdbSource) -> None:
        self.made = made

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> int:
        return int(self.made.read(index).split()[1])


def test_forked_workers_read_what_the_parent_has_open(base: Path) -> None:
    made = source(base)
    values(made)
    loader = DataLoader(Values(made), batch_size=4, num_workers=2, multiprocessing_context="fork")
    assert torch.cat(list(loader)).tolist() == list(range(COUNT))
    assert values(made) == [b"value %d" % n for n in range(COUNT)]


def test_a_source_is_sent_to_another_process_without_its_environment(base: Path) -> None:
    made = source(base)
    values(made)
    assert values(pickle.loads(pickle.dumps(made))) == values(made)


def test_a_fork_while_another_thread_opens_does_not_hang(base: Path) -> None:
    """The child starts with a lock of its own: the parent's may be held at that moment."""
    with image_source._opening:
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if values(source(base))[3] == b"value 3" else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
