"""BasicSR's loaders for our models, able to resume in the middle of an epoch.

BasicSR's `EnlargedSampler` orders an epoch by the epoch's number alone, and a sample of ours depends on (seed, epoch,
index) alone, so a resumed run only has to leave out the samples that the epoch has used already: nothing is decoded
to be thrown away, and the number of workers may change. torchdata's StatefulDataLoader keeps the states of workers
and of their data sets instead; there are none to keep here, and it refuses another number of workers.
"""

import atexit
import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.utils import tensor2img
from torch.utils.data import DataLoader, Dataset, default_collate

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.training.randomness import seeded
from gcfsr_arch.training.workers import Batch, kill_workers, read_ahead, start_worker
from gcfsr_datasets.check import check_data
from gcfsr_datasets.face_dataset import FaceDataset
from gcfsr_datasets.image_io import write_bytes_atomic

Options = dict[str, Any]


class Position(NamedTuple):
    """A place in the data: an iteration, its epoch, and the samples of that epoch used up after it, over all ranks."""

    iteration: int = 0
    epoch: int = 0
    samples: int = 0


BEGINNING = Position()


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The place in the data of each iteration.

    Args:
        batch: samples of one iteration over all ranks.
        epoch_samples: samples of one epoch over all ranks.
        start: where this process starts.
    """

    batch: int
    epoch_samples: int
    start: Position = BEGINNING

    def after(self, iteration: int) -> Position:
        """The place after `iteration`; a remainder smaller than a batch is dropped, as the loader drops it.

        Nothing is left of an epoch that became shorter than what it has used.
        """
        done = iteration - self.start.iteration
        rest = max(0, self.epoch_samples - self.start.samples) // self.batch
        if done <= rest:
            return Position(iteration, self.start.epoch, self.start.samples + done * self.batch)
        per_epoch = self.epoch_samples // self.batch
        epochs, batches = divmod(done - rest - 1, per_epoch)
        return Position(iteration, self.start.epoch + 1 + epochs, (batches + 1) * self.batch)


class Sampler(EnlargedSampler):
    """BasicSR's order of an epoch, without the samples that epoch `skip_epoch` has used up.

    The keys are (epoch, place): the place runs on through the repetitions of `dataset_enlarge_ratio` where BasicSR
    begins anew, so that each of them has draws of its own.
    """

    def __init__(self, dataset: Dataset, world_size: int, rank: int, ratio: float, skip_epoch: int, skip: int) -> None:
        super().__init__(dataset, world_size, rank, ratio)
        self.skip_epoch, self.skip = skip_epoch, skip

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = torch.randperm(self.total_size, generator=torch.Generator().manual_seed(self.epoch)).tolist()
        start = self.skip if self.epoch == self.skip_epoch else 0
        return ((self.epoch, place) for place in order[self.rank :: self.num_replicas][start:])


class Keyed(Dataset):
    """A data set addressed by (epoch, place), so that persistent workers know the epoch as well.

    Ours have `at` for it. Others draw from the global generators, if at all: these are seeded for each sample.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        epoch, place = key
        if hasattr(self.dataset, "at"):
            return self.dataset.at(epoch, place)
        with seeded(self.seed, epoch, place):
            return self.dataset[place % len(self.dataset)]


def collate(samples: list[Batch]) -> Batch:
    """torch's batch, the factors as a list: numbers that stay on the host when the tensors move to a device."""
    batch = default_collate(samples)
    return batch | {"factor": [float(sample["factor"]) for sample in samples]} if "factor" in batch else batch


class TrainLoader(DataLoader):
    """A DataLoader whose iterators start at their first batch.

    BasicSR's prefetchers make an iterator that they throw away before the first epoch; started at once it would decode
    batches and set up workers for nothing.

    Args:
        ahead: batches that a thread holds ready, 0 for no thread (BasicSR's `prefetch_mode: cpu`).
    """

    def __init__(self, *args: Any, ahead: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ahead = ahead

    def __iter__(self) -> Iterator[Batch]:
        return self._started(super().__iter__)

    def _started(self, start: Callable[[], Iterator[Batch]]) -> Iterator[Batch]:
        try:
            batches = start()
            yield from read_ahead(batches, self.ahead) if self.ahead else batches
        except (ConnectionError, EOFError) as error:  # a worker died while it handed a batch over
            if not self.num_workers:
                raise
            raise RuntimeError(f"DataLoader worker: {error}") from error
        except GCFSRError as error:  # torch wraps a worker's error in its traceback
            raise GCFSRError(str(error).rstrip().splitlines()[-1].split("GCFSRError: ")[-1]) from None


# ---------------------------------------------------------------- what BasicSR's pipeline calls


def create_train_val_dataloader(
    opt: Options, logger: logging.Logger, start: Position = BEGINNING
) -> tuple[Any, Any, list[Any], int, int, Schedule]:
    """As BasicSR's function of that name, from `start` on.

    Returns:
        Training loader and sampler, validation loaders, last epoch, iterations, and the run's `Schedule`.

    Raises:
        GCFSRError: the training set has fewer samples than a batch.
    """
    train, val_loaders = opt["datasets"]["train"], []
    loader, sampler, schedule = train_loader(opt, train, start)
    if (count := (opt.get("logger") or {}).get("dump_samples", 0)) and opt["rank"] == 0:
        save_samples(loader, count, Path(opt["path"]["experiments_root"]) / "samples.png")
    total = int(opt["train"]["total_iter"])
    per_epoch = schedule.epoch_samples // schedule.batch
    epochs = schedule.after(total).epoch  # the last one; those before `start` may have had another length
    logger.info(
        f"Training set {train['name']}: {len(sampler.dataset):,} images, {schedule.batch} per iteration over "
        f"{opt['world_size']} process(es), {per_epoch:,} iterations per epoch, {total:,} iterations in all."
    )
    if opt["num_gpu"] > 1 and not opt["dist"]:
        logger.warning(f"One of {opt['num_gpu']} GPUs is used: torchrun with --launcher pytorch takes them all.")
    for phase, options in opt["datasets"].items():
        if phase.split("_")[0] == "val":
            dataset = checked_dataset(options)
            val_loaders.append(
                build_dataloader(dataset, options, opt["num_gpu"], opt["dist"], None, opt["manual_seed"])
            )
            logger.info(f"Validation set {options['name']}: {len(dataset):,} images.")
    return loader, sampler, val_loaders, epochs, total, schedule


def save_samples(loader: TrainLoader, count: int, path: Path) -> None:
    """Writes the first training samples as the network sees them: lq above gt, side by side."""
    keys = itertools.islice(iter(loader.sampler), count)
    columns = [torch.cat([sample["lq"], sample["gt"]], dim=1) for sample in map(loader.dataset.__getitem__, keys)]
    image = tensor2img(torch.cat(columns, dim=2), min_max=(-1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(path, cv2.imencode(".png", image)[1].tobytes())


def checked_dataset(options: Options) -> Any:
    """BasicSR's `build_dataset`; for ours it also reads the headers of some images.

    Raises:
        GCFSRError: a folder that is missing or empty, images that cannot be read or have the wrong size.
    """
    dataset = build_dataset(options)
    if isinstance(dataset, FaceDataset):
        check_data(dataset.options, batch=1).raise_if_faulty()
    return dataset


def train_loader(opt: Options, train: Options, start: Position = BEGINNING) -> tuple[TrainLoader, Sampler, Schedule]:
    """The training loader and sampler from `start` on."""
    batch, workers = train["batch_size_per_gpu"], train["num_worker_per_gpu"]  # one device per process
    dataset = checked_dataset(train)
    world, rank = opt["world_size"], opt["rank"]
    ratio = train.get("dataset_enlarge_ratio", 1)
    start = start._replace(samples=start.samples // world * world)  # each rank leaves out as many
    sampler = Sampler(dataset, world, rank, ratio, start.epoch, start.samples // world)
    schedule = Schedule(batch * world, sampler.num_samples * world, start)
    if schedule.epoch_samples < schedule.batch:
        raise GCFSRError(
            f"datasets.train.batch_size_per_gpu: {schedule.batch} samples make a batch, {train.get('dataroot_gt')} has "
            f"{len(dataset)}; lower it or raise dataset_enlarge_ratio"
        )
    # a thread may not draw from the trainer's generators, which a data set without `at` does
    ahead = train.get("num_prefetch_queue", 1) if train.get("prefetch_mode") == "cpu" and hasattr(dataset, "at") else 0
    if workers:
        atexit.register(kill_workers)
    loader = TrainLoader(
        Keyed(dataset, opt["manual_seed"]),
        batch_size=batch,
        sampler=sampler,
        num_workers=workers,
        drop_last=True,
        collate_fn=collate,
        pin_memory=train.get("pin_memory", False),
        persistent_workers=workers > 0 and train.get("persistent_workers") is not False,
        worker_init_fn=partial(start_worker, num_workers=workers, rank=rank, seed=opt["manual_seed"]),
        generator=torch.Generator().manual_seed(opt["manual_seed"]),  # an iterator draws its workers' seed from it
        ahead=ahead,
    )
    return loader, sampler, schedule
