"""Seconds of whole commands, each a process of its own: `python benchmarks/startup.py [--runs 7] [--photograph FILE]`.

The one place where absolute times of a CPU are of use: they are what a person waits for.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
from skimage.data import astronaut
from timing import machine, table


def median_seconds(command: list[str], runs: int) -> float:
    """Median wall time of a command, after one run that fills the disk's cache."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--photograph", help="restored too; the aim holds for one of three faces")
    args = parser.parse_args()
    gcfsr = str(Path(sys.executable).with_name("gcfsr"))
    with tempfile.TemporaryDirectory() as folder:
        face, out = str(Path(folder, "face.png")), str(Path(folder, "out"))
        cv2.imwrite(face, cv2.resize(astronaut()[:256, 96:352, ::-1], (32, 32), interpolation=cv2.INTER_AREA))
        commands = {
            "python -c pass": ([sys.executable, "-c", "pass"], ""),
            "gcfsr --help": ([gcfsr, "--help"], "0.3 s"),
            'python -c "import torch"': ([sys.executable, "-c", "import torch"], ""),
            "gcfsr restore, one face": ([gcfsr, "restore", face, "-o", out, "--aligned"], "3 s"),
        }
        if args.photograph:
            commands["gcfsr restore, a photograph"] = ([gcfsr, "restore", args.photograph, "-o", out], "4 s")
        rows = [(name, aim, f"{median_seconds(call, args.runs):.2f} s") for name, (call, aim) in commands.items()]
    print(f"{machine()}; median of {args.runs}\n")
    print(table([("command", "aim", "in all"), *rows]))


if __name__ == "__main__":
    main()
