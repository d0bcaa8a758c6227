"""Time and memory of one aligned face by network: `python benchmarks/networks.py [--runs 5] [--threads 2]`.

The two networks of the package, and untrained ones of the paper's width at 512 and 1024 pixels; all through `Restorer`,
in float32 and in turn. A further dial of the same face runs the decoder only. Memory is the peak of an own process.
"""

import argparse

import numpy as np
import torch
from timing import interleaved, machine, peak_memory, table

from gcfsr_arch import GCFSR, load_generator
from gcfsr_arch.devices import keep_freed_memory
from gcfsr_inference import Restorer
from gcfsr_inference.backends.backend import TorchBackend
from gcfsr_inference.restore.weights import bundled

MEMORY = """
import sys
sys.path.insert(0, {folder!r})
from networks import blank, open_network
blank(open_network({name!r}))
"""
SIDES = {"512, paper's width": 512, "1024, paper's width": 1024}
NAMES = ("gcfsr-nano", "gcfsr-256", *SIDES)


def open_network(name: str) -> Restorer:
    """A network of the table."""
    return Restorer(TorchBackend(GCFSR(SIDES[name]) if name in SIDES else load_generator(bundled()[name])))


def blank(restorer: Restorer) -> None:
    """Restores one gray face."""
    restorer.restore(np.full((restorer.out_size, restorer.out_size, 3), 128, np.uint8), factor=8)


def main() -> None:
    """Prints the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    rng, calls, networks = np.random.default_rng(0), {}, {name: open_network(name) for name in NAMES}
    for name, restorer in networks.items():
        faces = iter(rng.integers(0, 256, (2 + args.runs, restorer.out_size, restorer.out_size, 3), np.uint8))
        features = restorer.encode(next(faces))
        calls[name] = lambda restorer=restorer, faces=faces: restorer.restore(next(faces), factor=8)
        calls[f"{name}, dial"] = lambda restorer=restorer, kept=features: restorer.decode(kept, factor=16)
    seconds = interleaved(calls, args.runs)
    rows = [("network", "parameters", "one face", "a further dial", "peak memory")]
    for name in NAMES:
        parameters = sum(p.numel() for p in networks[name].backend.net.parameters())
        memory = peak_memory(MEMORY.format(folder=__file__.rpartition("/")[0], name=name))
        times = (f"{seconds[key]:.2f} s" for key in (name, f"{name}, dial"))
        rows.append((name, f"{parameters / 1e6:.1f} M", *times, f"{memory / 1e6:.0f} MB"))
    print(f"{machine()}; median of {args.runs}\n")
    print(table(rows))


if __name__ == "__main__":
    main()
