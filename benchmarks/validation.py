"""Time of the metrics of a validation: `python benchmarks/validation.py [--size 1024] [--images 8] [--workers 2]`.

Processor time of PSNR, SSIM and NIQE of a few images, extrapolated to 200: by BasicSR's functions, an image at a time,
and by ours; then what worker processes (`val: workers`) gain in wall time over one process. Restoring the images is
not counted, and neither are networks (LPIPS, FID), which run on the device.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from timing import interleaved, machine, table

import gcfsr_autoload
from gcfsr_arch.training.metrics import measured, wanted_metrics
from gcfsr_measure.measures import Case
from gcfsr_measure.workers import Workers

FACES = Path(__file__).resolve().parents[1] / "tests" / "data" / "faces"
KINDS = ("calculate_psnr", "calculate_ssim", "calculate_niqe")
WHOLE, BATCH = 200, 4


def cases(size: int, count: int) -> list[Case]:
    """Real faces enlarged to the size with grain, beside the same faces with other grain."""
    rng = np.random.default_rng(0)
    faces = [np.asarray(cv2.imread(str(path))) for path in sorted(FACES.glob("*.jpg"))]
    found = []
    for number in range(count):
        face = cv2.resize(faces[number % len(faces)], (size, size), interpolation=cv2.INTER_CUBIC)
        gt, result = ((face + rng.normal(0, 4, face.shape)).clip(0, 255).astype(np.uint8) for _ in range(2))
        found.append(Case(gt, result, result))
    return found


def theirs(images: list[Case], kind: str) -> None:
    """One of BasicSR's metrics, an image at a time."""
    from basicsr.metrics import calculate_metric

    for case in images:
        calculate_metric({"img": case.result, "img2": case.gt}, {"type": kind, "crop_border": 0})


def ours(images: list[Case], kinds: tuple[str, ...] = KINDS) -> None:
    """A batch of images, as validation measures it."""
    for metric in wanted_metrics({"metrics": {kind: {"type": kind} for kind in kinds}}).values():
        assert metric is not None
        measured(metric, images)


def speedup(images: list[Case], workers: int, runs: int) -> float:
    """Time of one process over that of worker processes that have started, in turns."""
    batches = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
    with Workers(workers) as pool:
        list(pool.map(ours, [images[:1]] * workers))
        seconds: dict[str, list[float]] = {"one": [], "workers": []}
        for _ in range(runs):
            for name, mapped in (("one", map), ("workers", pool.map)):
                start = time.perf_counter()
                list(mapped(ours, batches))
                seconds[name].append(time.perf_counter() - start)
    return statistics.median(seconds["one"]) / statistics.median(seconds["workers"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    gcfsr_autoload.install()
    images = cases(args.size, args.images)
    calls: dict[str, Callable[[], None]] = {}
    for kind in KINDS:
        name = kind.removeprefix("calculate_").upper()
        calls[f"{name}, BasicSR's"] = lambda kind=kind: theirs(images[:BATCH], kind)
        calls[f"{name}, ours"] = lambda kind=kind: ours(images[:BATCH], (kind,))
    each = {name: seconds / BATCH for name, seconds in interleaved(calls, args.runs).items()}
    one = sum(seconds for name, seconds in each.items() if "ours" in name)
    each["all three, BasicSR's"], each["all three, ours"] = sum(each.values()) - one, one
    gain = speedup(images, args.workers, args.runs)
    each[f"all three, ours, {args.workers} workers ({gain:.2f}x, wall time)"] = one / gain
    print(f"{machine()}; {args.size} pixels, median of {args.runs}; the last column is extrapolated\n")
    cells = [(name, f"{seconds:.2f} s", f"{WHOLE * seconds / 60:.1f} min") for name, seconds in each.items()]
    print(table([("metrics", "an image", f"{WHOLE} images"), *cells]))


if __name__ == "__main__":
    main()
