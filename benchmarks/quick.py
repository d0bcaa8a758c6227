"""The ratios that must not slip unnoticed, in under three minutes: `make bench-quick`.

A quarter-width network at 256 pixels against the plain form, the dial, a training step at 64, and exact bicubic against
BasicSR's imresize.
"""

import time

import numpy as np
import torch
from timing import interleaved, machine, table
from training import measure

from gcfsr_arch import GCFSR
from gcfsr_arch.devices import keep_freed_memory
from gcfsr_arch.reference import generate
from gcfsr_datasets.resize import resize


def inference() -> list[tuple[str, ...]]:
    """Whole pass and dial at 256 pixels."""
    torch.manual_seed(0)
    net = GCFSR(256, narrow=0.25, variant="released").eval()
    x, noise = torch.rand(1, 3, 256, 256) * 2 - 1, [torch.randn(shape) for shape in net.noise_shapes()]
    with torch.inference_mode():
        features = net.encode(x)
        seconds = interleaved(
            {
                "plain": lambda: generate(net, x, 0.5, noise),
                "ours": lambda: net(x, 0.5, noise=noise),
                "dial": lambda: net.decode(features, 0.5, noise),
            },
            runs=7,
        )
    return [
        ("whole pass against the plain form, 256", f"{seconds['plain'] / seconds['ours']:.2f}x"),
        ("a further s, share of a whole pass", f"{seconds['dial'] / seconds['ours']:.2f}x"),
    ]


def bicubic() -> tuple[str, ...]:
    """Exact bicubic, 1024 to 64, against BasicSR where it is installed."""
    image = np.random.default_rng(0).random((1024, 1024, 3)).astype(np.float32)
    try:
        from basicsr.utils.matlab_functions import imresize
    except ImportError:
        return ("bicubic 1024 to 64 and back against BasicSR's imresize", "BasicSR is not installed")
    calls = {
        "theirs": lambda: imresize(imresize(image, 1 / 16), 16),
        "ours": lambda: resize(resize(image, (64, 64)), (1024, 1024)),
    }
    seconds = interleaved(calls, runs=3)
    return ("bicubic 1024 to 64 and back against BasicSR's imresize", f"{seconds['theirs'] / seconds['ours']:.1f}x")


def main() -> None:
    start = time.perf_counter()
    keep_freed_memory()
    step = measure(64, 0.25, runs=5)
    rows = [("what", "ratio"), *inference(), ("training step at 64 against the released structure", step[2]), bicubic()]
    print(f"{machine()}\n\n{table(rows)}\n\n{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
