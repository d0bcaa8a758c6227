"""Time and memory against output size, batch and faces: `python benchmarks/growth.py [--image FILE.png]`.

Times are relative to the smallest case of each row; "work" is what the multiply-adds (or the number of faces) grow by.
Nothing is to grow faster than its work. Memory is the peak of one pass in a process of its own, parameters included.
"""

import argparse

import numpy as np
import torch
from timing import interleaved, machine, peak_memory, table
from torch.utils.flop_counter import FlopCounterMode

from gcfsr_arch import GCFSR
from gcfsr_arch.devices import keep_freed_memory
from gcfsr_inference import Restorer

PASS = """
net = __import__("gcfsr_arch").GCFSR({size}).eval()
with torch.inference_mode():
    net(torch.zeros({batch}, 3, {size}, {size}), 0.5, noise="fixed")
"""
FACES = """
import numpy as np
from gcfsr_inference import Restorer
restorer, faces = Restorer.load(), np.zeros(({faces}, 64, 64, 3), np.uint8)
for i in range(0, {faces}, 8):
    restorer.restore_batch(list(faces[i : i + 8]), factor=8)
"""


def one_pass(size: int, batch: int, runs: int) -> tuple[float, float, float]:
    """Multiply-adds, seconds and bytes of one pass of the paper's network."""
    net, x = GCFSR(size).eval(), torch.rand(batch, 3, size, size) * 2 - 1
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            net(x, 0.5, noise="fixed")
        seconds = interleaved({"pass": lambda: net(x, 0.5, noise="fixed")}, runs, warmup=0)["pass"]
    return counter.get_total_flops() / 2, seconds, peak_memory(PASS.format(size=size, batch=batch))


def photograph(faces: int, runs: int) -> tuple[float, float, float]:
    """Faces, seconds and bytes of restoring that many faces of a photograph in batches, with the bundled network."""
    restorer = Restorer.load()
    images = [np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8) for i in range(faces)]

    def run() -> None:
        for i in range(0, faces, 8):
            restorer.restore_batch(images[i : i + 8], factor=8)

    return float(faces), interleaved({"faces": run}, runs)["faces"], peak_memory(FACES.format(faces=faces))


def relative(cases: dict[str, tuple[float, float, float]]) -> list[tuple[str, ...]]:
    """Table rows relative to the first case."""
    work0, time0, _ = next(iter(cases.values()))
    return [
        (name, f"{work / work0:.1f}x", f"{time / time0:.1f}x", f"{memory / 2**20:.0f} MB")
        for name, (work, time, memory) in cases.items()
    ]


def draw(groups: dict[str, dict[str, tuple[float, float, float]]], path: str) -> None:
    """Time against work, both relative, on logarithmic axes; the diagonal is 'as fast as the work grows'."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 4))
    for name, cases in groups.items():
        work0, time0, _ = next(iter(cases.values()))
        axes.loglog(
            [w / work0 for w, _, _ in cases.values()], [t / time0 for _, t, _ in cases.values()], "o-", label=name
        )
    axes.loglog([1, 64], [1, 64], "k:", label="as the work")
    axes.set(xlabel="work, relative", ylabel="time, relative")
    axes.legend()
    figure.savefig(path, dpi=100, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--image", help="also draw the growth into this PNG")
    args = parser.parse_args()
    keep_freed_memory()
    groups = {
        "output size (batch 1)": {str(n): one_pass(n, 1, args.runs) for n in (128, 256, 512, 1024)},
        "batch (256 pixels)": {str(n): one_pass(256, n, args.runs) for n in (1, 2, 4, 8)},
        "faces (128 pixels, batches of 8)": {str(n): photograph(n, args.runs) for n in (1, 4, 16, 64)},
    }
    print(machine(), "\n")
    for name, cases in groups.items():
        print(table([(name, "work", "time", "peak memory"), *relative(cases)]), "\n")
    if args.image:
        draw(groups, args.image)


if __name__ == "__main__":
    main()
