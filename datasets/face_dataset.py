"""The base of the data sets: the order of the images, random numbers, and images that cannot be decoded."""

import logging
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets import balance
from gcfsr_datasets.dataset_options import FaceOptions, PairedOptions
from gcfsr_datasets.degradation import resized
from gcfsr_datasets.degradation.color import augment_tone
from gcfsr_datasets.degradation.placement import misplace
from gcfsr_datasets.image_io import decode_bgr, list_images, read_bytes
from gcfsr_datasets.image_source import JoinedSource, open_source
from gcfsr_datasets.resize import resize
from gcfsr_datasets.valid_area import ValidAreas

logger = logging.getLogger("basicsr.gcfsr_datasets")  # below BasicSR's logger, so its console and file get the messages


class FaceDataset(Dataset):
    """Ground truth faces in the order of their names; a subclass names its options and degrades in `sample`.

    A sample is a function of (seed, epoch, index) alone: each has a random generator of its own, so neither the number
    of workers nor their state matters. Epoch and failures live in shared memory, so running workers see them at once.

    Args:
        opt: a block of BasicSR's `datasets:`; its keys are those of `schema`.

    Raises:
        GCFSRError: a key is unknown or out of range, or the folder, list or LMDB is missing, empty or malformed.
    """

    schema: ClassVar[type[FaceOptions]]
    options: FaceOptions

    def __init__(self, opt: dict[str, Any]):
        self.options = options = self.schema.from_opt(opt)
        self.opt = opt  # BasicSR's models read the name from here
        self.source = open_source(options)
        self.training = options.phase == "train"
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._failed = torch.zeros(len(self.source.names), dtype=torch.uint8).share_memory_()
        self._paired = options.paired if self.training else None
        self._pairs = [] if self._paired is None else matched_pairs(self._paired)
        self._valid = None if options.valid_corners is None else ValidAreas.read(options.valid_corners)
        chances = np.ones(len(self.source.names))
        if self.training and options.balance_luminance:
            chances *= balance.even_weights(balance.measure(self.source, options.luminance_cache))
        if self.training and isinstance(self.source, JoinedSource) and options.root_weights is not None:
            chances *= self.source.weights(options.root_weights)
        even = np.ptp(chances) == 0  # then every image is seen once in an epoch
        self._chances = None if even else np.cumsum(chances / chances.sum())

    def __len__(self) -> int:
        return len(self.source.names) * self.options.repeats

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch that the samples depend on. Call it before the loader's iterator is created."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """`at` in the epoch of `set_epoch`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.at(int(self._epoch), index)

    def at(self, epoch: int, index: int) -> dict[str, Any]:
        """A sample: `sample`'s tensors, and lq_path and gt_path, both the image's name. Validation ignores the epoch.

        An index beyond the last starts again with the first image, with other random numbers.

        Raises:
            GCFSRError: the image is not square or of the wrong size; or it cannot be decoded and this is validation,
                or more than `max_bad_share` of all images could not.
        """
        rng = np.random.default_rng((self.options.seed, epoch if self.training else 0, index))
        if self._paired is not None and rng.random() < self._paired.prob:
            return self._real_pair(*self._pairs[rng.integers(len(self._pairs))], self._paired.factor, rng)
        image, name = self._readable(self._choose(index, rng), rng)
        if self._valid is not None:
            image = np.dstack([image, self._valid.mask(name, self.options.out_size)])  # moves with the image
        if self.training and self.options.use_hflip and rng.random() < 0.5:
            image = cv2.flip(image, 1)
        if self.training and self.options.misplace is not None:
            image = misplace(image, rng, self.options.misplace)
        image, mask = np.ascontiguousarray(image[..., :3]), image[..., 3:]
        if self.training and self.options.augment is not None:
            image = augment_tone(image.astype(np.float32) / 255, rng, self.options.augment)
        valid = {} if self._valid is None else {"valid": torch.from_numpy((mask > 127).transpose(2, 0, 1)).float()}
        sample = self._normalized(self.sample(image, rng))
        if self._paired is not None:
            sample.pop("conditions", None)  # of which nothing is known for real pairs
        return {**sample, **valid, "lq_path": name, "gt_path": name}

    def sample(self, image: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        """Degrades a square face, BGR, uint8 or float32 in [0, 1]: lq and gt (3, S, S) RGB in [-1, 1], s, factor."""
        raise NotImplementedError

    def dial(self, factor: float) -> dict[str, Tensor]:
        """`s` and `factor` of a sample at a factor."""
        raise NotImplementedError

    def pair(self, gt: np.ndarray, lq: np.ndarray, factor: float) -> dict[str, Tensor]:
        """The sample of a real pair: (3, S, S) RGB in [-1, 1] each."""
        return {"lq": torch.from_numpy(lq), "gt": torch.from_numpy(gt), **self.dial(factor)}

    def _real_pair(
        self, gt_path: Path, lq_path: Path, factor: float | None, rng: np.random.Generator
    ) -> dict[str, Any]:
        options = self.options
        gt, small = (decode_bgr(read_bytes(str(path)), str(path)) for path in (gt_path, lq_path))
        gt, (height, width) = fit(gt, options, str(gt_path)), small.shape[:2]
        if height != width:
            raise GCFSRError(f"{lq_path}: is {width} x {height} pixels, not square; crop it as its ground truth is")
        lq = resize(small.astype(np.float32) / 255, (options.out_size, options.out_size))
        factor = factor or max(1.0, options.out_size / width)
        largest = getattr(options, "max_factor", factor)
        if factor > largest:
            raise GCFSRError(f"{lq_path}: its factor is {factor:g}, above max_factor {largest:g}; remove it")
        if options.use_hflip and rng.random() < 0.5:
            gt, lq = cv2.flip(gt, 1), cv2.flip(lq, 1)
        sample = self._normalized(self.pair(to_planes(gt), to_planes(lq), factor))
        valid = {} if self._valid is None else {"valid": torch.ones(1, options.out_size, options.out_size)}
        return {**sample, **valid, "lq_path": str(lq_path), "gt_path": str(gt_path)}

    def _normalized(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        """The sample with its images normalised by `mean` and `std`."""
        if self.options.mean is None:
            return sample
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.options.mean, self.options.std))
        return {key: ((x + 1) / 2 - mean) / std if x.ndim == 3 else x for key, x in sample.items()}

    def _choose(self, index: int, rng: np.random.Generator) -> int:
        if self._chances is None:
            return index % len(self.source.names)
        return min(int(np.searchsorted(self._chances, rng.random(), "right")), len(self._chances) - 1)

    def _readable(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """The image, or instead of it one drawn by `rng` that can be decoded."""
        while True:
            name = self.source.names[index]
            try:
                image = decode_bgr(self.source.read(index), name)
            except GCFSRError as error:
                self._count_failure(index, error)
                index = int(rng.integers(len(self.source.names)))
            else:
                return fit(image, self.options, name), name

    def _count_failure(self, index: int, error: GCFSRError) -> None:
        if not self.training:
            raise error
        known = bool(self._failed[index])
        self._failed[index] = 1
        failed, count = int(self._failed.sum()), len(self._failed)
        so_far = f"{failed} of {count} images failed"
        if failed > self.options.max_bad_share * count:
            raise GCFSRError(f"{error}; {so_far}, more than max_bad_share {self.options.max_bad_share:g}") from error
        if not known:
            logger.warning(f"skipped: {error} ({so_far} so far)")


def dial_at(factor: float, max_factor: float) -> dict[str, Tensor]:
    """`s` and `factor` of a sample."""
    values = {"s": factor / max_factor, "factor": factor}
    return {key: torch.tensor(value, dtype=torch.float32) for key, value in values.items()}


def matched_pairs(options: PairedOptions) -> list[tuple[Path, Path]]:
    """(ground truth, degraded face) of each file of dataroot_lq, by their relative names without suffix.

    Raises:
        GCFSRError: a folder is missing or empty, or a degraded face has no ground truth.
    """
    roots = options.dataroot_gt, options.dataroot_lq
    gts, lqs = (
        {path.relative_to(root).with_suffix(""): path for path in map(Path, list_images(root, recursive=True))}
        for root in roots
    )
    for name, path in lqs.items():
        if name not in gts:
            raise GCFSRError(f"{path}: paired.dataroot_gt {options.dataroot_gt} has no {name}; add it or remove this")
    return [(gts[name], path) for name, path in lqs.items()]


def fit(image: np.ndarray, options: FaceOptions, name: str) -> np.ndarray:
    """A face of out_size x out_size pixels, BGR uint8.

    Raises:
        GCFSRError: it is not square, is smaller, or is larger and `resize_gt` is not set.
    """
    fault = size_fault(image.shape[1], image.shape[0], options)
    if fault is not None:
        raise GCFSRError(f"{name}: {fault}")
    return resized(image, options.out_size)


def size_fault(width: int, height: int, options: FaceOptions) -> str | None:
    """What is wrong with the size of a ground truth face and what to do, or None."""
    found = f"is {width} x {height} pixels"
    if width != height:
        return f"{found}, not square; crop it to the aligned face"
    if width < options.out_size:
        return f"{found}, smaller than out_size {options.out_size}; remove it or lower out_size"
    if width > options.out_size and not options.resize_gt:
        return f"{found}, larger than out_size {options.out_size}; set resize_gt: true"
    return None


def to_planes(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) BGR, uint8 or float32 in [0, 1] -> (3, H, W) RGB float32 in [-1, 1]."""
    middle = 127.5 if image.dtype == np.uint8 else 0.5
    return cv2.dnn.blobFromImage(image, 1 / middle, mean=(middle,) * 3, swapRB=True)[0]
