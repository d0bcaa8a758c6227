"""Images a second of `gcfsr restore` by processes and threads: `python benchmarks/jobs.py [--faces 24] [--runs 3]`.

One process of one thread, one process of all threads, and `--jobs` with one process for each core restore the same
aligned faces in turns. Counted is from the time when a tenth of the results is there, so that starting the processes
does not. Needs an idle machine: other programs take more from two processes than from one.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
from skimage.data import astronaut
from timing import machine, table


def images_per_second(folder: Path, out: Path, threads: int, jobs: int, options: list[str]) -> float:
    """The rate of one run, from the times at which its results were written."""
    command = [sys.executable, "-m", "gcfsr_inference.cli", "restore", "-i", str(folder), "-o", str(out), "--aligned"]
    command += ["--jobs", str(jobs), "--device", "cpu", "--factor", "8", "-q", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    subprocess.run(command, check=True, env=environment)
    times = sorted(path.stat().st_mtime_ns / 1e9 for path in out.glob("restored_faces/*"))
    first = max(jobs, len(times) // 10)
    return (len(times) - 1 - first) / (times[-1] - times[first])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=24)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("options", nargs="*", help="passed on to gcfsr restore, after --")
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "faces")
        folder.mkdir()
        face = cv2.resize(astronaut()[:256, 96:352, ::-1], (32, 32), interpolation=cv2.INTER_AREA)
        for number in range(args.faces):
            cv2.imwrite(str(folder / f"{number:04d}.png"), face + number % 8)
        ways = {"1 process, 1 thread": (1, 1), f"1 process, {cores} threads": (cores, 1), f"--jobs {cores}": (1, cores)}
        for run in range(args.runs):
            for number, (name, (threads, jobs)) in enumerate(ways.items()):
                out = Path(place, f"{run}-{number}")
                rates.setdefault(name, []).append(images_per_second(folder, out, threads, jobs, args.options))
                print(f"{name}: {rates[name][-1]:.2f} images/s", file=sys.stderr, flush=True)
    one, several, split = (statistics.median(rates[name]) for name in ways)
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}; {args.faces} faces, median of {args.runs}\n")
    print(table([("", "images/s"), *((name, f"{statistics.median(rates[name]):.2f}") for name in ways)]))
    print(f"\n--jobs {cores}: {split / one:.2f}x one thread (aim 1.8), {split / several:.2f}x one process (aim 1.15)")


if __name__ == "__main__":
    main()
