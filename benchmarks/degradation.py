"""How fast are resizing, degrading and loading? `python benchmarks/degradation.py [--quick]` prints ratios as a table.

Every row times two ways of doing the same on one thread, in turns, and compares the medians of the processor time that
they take, which other programs disturb less than the clock. The image is scikit-image's astronaut at 1024 x 1024.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from statistics import median

import cv2
import lmdb
import numpy as np
import torch
from skimage.data import astronaut
from timing import machine
from torchvision.transforms import functional as tv

import gcfsr_autoload

gcfsr_autoload.install()

from basicsr.data import degradations  # noqa: E402
from basicsr.utils.matlab_functions import imresize  # noqa: E402

from gcfsr_datasets.blind_face_dataset import BlindFaceDegradationDataset  # noqa: E402
from gcfsr_datasets.degradation import apply_blind, degrade_batch, degrade_planes  # noqa: E402
from gcfsr_datasets.degradation.blind_parameters import BlindDraw, BlindRanges, draw_blind  # noqa: E402
from gcfsr_datasets.face_dataset import FaceDataset, to_planes  # noqa: E402
from gcfsr_datasets.multi_factor_dataset import MultiFactorDegradationDataset  # noqa: E402
from gcfsr_datasets.resize import resize  # noqa: E402

Work = Callable[[], object]
FACTORS = (4, 8, 16, 32, 64)
PAPER = [4.0, 8.0, 16.0, 32.0, 64.0]


def seconds(*works: Work, rounds: int) -> list[float]:
    """Median processor time of each, in turns, after one warm-up."""
    times: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 1):
        for work, taken in zip(works, times, strict=True):
            start = time.process_time()
            work()
            if number:
                taken.append(time.process_time() - start)
    return [median(taken) for taken in times]


def bicubic(face: np.ndarray, rounds: int) -> Iterator[tuple[str, str]]:
    for factor in FACTORS:
        small = resize(face, (1024 // factor,) * 2)
        theirs, ours, their_down, our_down, their_up, our_up = seconds(
            lambda f=factor: imresize(imresize(face, 1 / f), f),
            lambda f=factor: resize(resize(face, (1024 // f,) * 2), (1024, 1024)),
            lambda f=factor: imresize(face, 1 / f),
            lambda f=factor: resize(face, (1024 // f,) * 2),
            lambda f=factor, s=small: imresize(s, f),
            lambda s=small: resize(s, (1024, 1024)),
            rounds=rounds,
        )
        apart = f"down {their_down / our_down:.1f}, up {their_up / our_up:.1f}"
        yield f"`imresize` / `resize`, 1024 down and up, factor {factor}", f"{theirs / ours:.1f} ({apart})"


def loading(folder: Path, png: np.ndarray, rounds: int) -> Iterator[tuple[str, str]]:
    def decode() -> object:
        return cv2.imdecode(png, cv2.IMREAD_COLOR)

    def items(dataset: FaceDataset) -> Work:
        numbers = count()
        return lambda: dataset[next(numbers) % len(dataset)]

    base = {"out_size": 1024, "use_hflip": True, "repeats": 1000}
    disk = {**base, "dataroot_gt": str(folder / "faces")}
    for factors in [*([factor] for factor in PAPER), PAPER]:
        dataset = MultiFactorDegradationDataset({**disk, "factors": factors})
        alone, whole = seconds(decode, items(dataset), rounds=rounds * (3 if len(factors) > 1 else 1))
        drawn = f"factor {factors[0]:g}" if len(factors) == 1 else "the paper's factors"
        yield f"sample / decoding its 1024 PNG alone, {drawn}", f"{whole / alone:.2f}"
    alone, whole = seconds(decode, items(BlindFaceDegradationDataset(disk)), rounds=rounds * 3)
    yield "blind sample / decoding its 1024 PNG alone", f"{whole / alone:.2f}"
    packed = {**base, "dataroot_gt": str(folder / "faces.lmdb"), "io_backend": {"type": "lmdb"}, "factors": PAPER}
    files, database = (MultiFactorDegradationDataset(opt) for opt in ({**disk, "factors": PAPER}, packed))
    from_files, from_database = seconds(items(files), items(database), rounds=rounds * 3)
    yield "sample from a folder / from an LMDB, both in the page cache", f"{from_files / from_database:.2f}"


def blind_by_helpers(gt: np.ndarray, draw: BlindDraw) -> object:
    """One draw of the blind degradation as it is written with BasicSR's and torchvision's functions."""
    size = gt.shape[0]
    iso = draw.sigma[0] == draw.sigma[1]
    kernel = degradations.bivariate_Gaussian(41, *draw.sigma, draw.angle, isotropic=iso)
    small = (int(size / draw.downsample),) * 2
    image = cv2.resize(cv2.filter2D(gt, -1, kernel), small, interpolation=cv2.INTER_LINEAR)
    image = degradations.add_gaussian_noise(image, draw.noise * 255)
    image = degradations.add_jpg_compression(image, draw.quality)
    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    if draw.shift is not None:
        image = np.clip(image + draw.shift, 0, 1)
    if draw.gray:
        image = np.tile(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None], [1, 1, 3])
    rgb = torch.from_numpy(cv2.cvtColor(image, cv2.COLOR_BGR2RGB).transpose(2, 0, 1))
    for name, value in draw.jitter:
        rgb = getattr(tv, f"adjust_{name}")(rgb, value)
    return torch.clamp((rgb * 255).round(), 0, 255) / 255


def compare_draw(gt: np.ndarray, draw: BlindDraw, rng: np.random.Generator) -> list[float]:
    return seconds(lambda: blind_by_helpers(gt, draw), lambda: apply_blind(gt, draw, rng), rounds=1)


def blind(face: np.ndarray, rounds: int) -> Iterator[tuple[str, str]]:
    for size in (512, 1024):
        gt, rng = resize(face, (size, size)).clip(0, 1), np.random.default_rng(0)
        draws = [draw_blind(rng, BlindRanges()) for _ in range(rounds * 4)]
        for name, chosen in (
            ("all draws", draws),
            ("draws without jitter", [draw for draw in draws if draw.shift is None and not draw.jitter]),
        ):
            pairs = [compare_draw(gt, draw, rng) for draw in chosen]
            theirs, ours = np.array(pairs).T
            middle = median(ours / theirs)
            yield (
                f"blind / the same with BasicSR's helpers, {size}, {name}",
                (f"{ours.sum() / theirs.sum():.2f} in all, {middle:.2f} in the median"),
            )


def batches(face: np.ndarray, rounds: int) -> Iterator[tuple[str, str]]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    planes = to_planes(face)
    gt = torch.from_numpy(np.stack([planes] * 4)).to(device)
    factors = torch.tensor([4.0, 16.0, 32.0, 64.0], device=device)

    def together() -> None:
        degrade_batch(gt, factors)
        if device.type == "cuda":
            torch.cuda.synchronize()

    def apart() -> None:
        for factor in factors.tolist():
            degrade_planes(planes, factor)

    whole, single = seconds(together, apart, rounds=rounds)
    yield f"batch of 4 at 1024 by `degrade_batch` on {device.type} / by the data set's way", f"{whole / single:.2f}"


def write_images(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(1024, 1024, 3) BGR uint8 with the grain of a photograph, as a folder and an LMDB, and its PNG."""
    face = cv2.resize(astronaut()[10:210, 120:320, ::-1], (1024, 1024), interpolation=cv2.INTER_CUBIC)
    face = np.clip(face + np.random.default_rng(0).normal(0, 3, face.shape), 0, 255).astype(np.uint8)
    png = cv2.imencode(".png", face)[1]
    for name in ("faces", "faces.lmdb"):
        (folder / name).mkdir()
    (folder / "faces" / "0.png").write_bytes(png)
    database = folder / "faces.lmdb"
    with lmdb.open(str(database), map_size=2**26) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"0", png.tobytes())
    (database / "meta_info.txt").write_text("0.png (1024,1024,3) 1\n")
    return face, png


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few rounds")
    rounds = 3 if parser.parse_args().quick else 9
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    print(f"{machine()}, OpenCV {cv2.__version__}\n\n| what | ratio |\n| --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        face, png = write_images(Path(name))
        unit = face.astype(np.float32) / 255
        for rows in (
            bicubic(unit, rounds),
            loading(Path(name), png, rounds),
            blind(unit, rounds),
            batches(face, rounds),
        ):
            for what, ratio in rows:
                print(f"| {what} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
