"""Checks all images before training starts and lists every fault at once."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from os import PathLike, cpu_count, fspath

from gcfsr_arch.errors import GCFSRError
from gcfsr_datasets.dataset_options import FaceOptions
from gcfsr_datasets.face_dataset import size_fault
from gcfsr_datasets.image_io import MAX_FACE_PIXELS, decode_bgr, size_of
from gcfsr_datasets.image_source import ImageSource, open_source

QUICK_SAMPLE = 200  # images whose headers are read at the start of a run


@dataclass(frozen=True)
class CheckReport:
    """The result of `check_data`.

    Attributes:
        checked: number of images that were checked.
        faults: one line each, naming the file or folder; empty if there is none.
    """

    checked: int
    faults: list[str]

    def raise_if_faulty(self) -> None:
        """Raises GCFSRError with the first fault and the number of the others."""
        if self.faults:
            more = f" (and {len(self.faults) - 1} more; `gcfsr check-data` lists them)" if len(self.faults) > 1 else ""
            raise GCFSRError(f"{self.faults[0]}{more}")


def check_folder(
    folder: str | PathLike, out_size: int | None = None, batch: int = 1, resize_gt: bool = False
) -> CheckReport:
    """Decodes every image of a folder or LMDB (`*.lmdb`); raises nothing, the report lists all faults.

    Args:
        folder: searched with its subfolders.
        out_size: required side in pixels; without it images must only be square.
        batch: images in one batch of all devices together.
        resize_gt: whether larger images are allowed, as in the data sets' option of that name.
    """
    root = fspath(folder)
    backend = {"type": "lmdb" if root.rstrip("/").endswith(".lmdb") else "disk"}
    any_size = out_size is None
    options = FaceOptions(root, out_size or 1, io_backend=backend, resize_gt=resize_gt or any_size)
    return check_data(options, batch, quick=False)


def check_data(options: FaceOptions, batch: int, quick: bool = True) -> CheckReport:
    """`check_folder` for the options of a data set.

    Args:
        options: the options of a data set.
        batch: images in one batch of all devices together.
        quick: reads the headers of at most `QUICK_SAMPLE` images, evenly distributed, instead of decoding all.
    """
    try:
        source = open_source(options)
    except GCFSRError as error:
        return CheckReport(0, [str(error)])
    count = len(source.names)
    step = ceil(count / QUICK_SAMPLE) if quick else 1
    chosen = range(0, count, step)
    faults = list(_faults(source, chosen, options, quick))
    if options.phase == "train" and count * options.repeats < batch:
        many = f"holds {count} images, fewer than a batch of {batch}"
        faults.append(f"{options.dataroot_gt}: {many}; add images, lower the batch or raise repeats")
    return CheckReport(len(chosen), faults)


def _faults(source: ImageSource, chosen: Iterable[int], options: FaceOptions, quick: bool) -> Iterator[str]:
    def fault_of(index: int) -> str | None:
        name = source.names[index]
        try:
            width, height = _size(source.read(index), name, quick)
        except GCFSRError as error:
            return str(error)
        fault = size_fault(width, height, options)
        return None if fault is None else f"{name}: {fault}"

    with ThreadPoolExecutor(cpu_count()) as pool:  # decoders release the interpreter's lock
        yield from filter(None, pool.map(fault_of, chosen))


def _size(data: bytes, name: str, quick: bool) -> tuple[int, int]:
    if quick:
        return size_of(data, name, MAX_FACE_PIXELS)
    height, width = decode_bgr(data, name).shape[:2]
    return width, height
