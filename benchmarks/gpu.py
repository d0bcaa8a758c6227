"""A CUDA device: `python benchmarks/gpu.py [--sizes 512 1024] [--train-sizes 256 512 1024] [--runs 20]`.

Latency (batch 1) and throughput (batch 8) in fp32, TF32 and bf16; eager, compiled and as a CUDA graph; the share of the
convolution peak that the multiply-adds reach; training images per second at the largest batch that fits; and what
eight cards would give on paper: the measured step, then the time its gradients' bytes take in an all-reduce. Absolute
figures.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from timing import CONV_SHAPES, table
from training import R1_EVERY, Step

from gcfsr_arch import GCFSR
from inference import macs

PRECISIONS = ("fp32", "tf32", "bf16")
LINK = 25e9  # bytes/s per direction between cards that are on PCIe 4; NVLink has ten times as much
Call = Callable[[], object]


def precision(name: str) -> AbstractContextManager:
    """Sets TF32 on or off and gives the autocast of a precision."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name != "fp32"
    return torch.autocast("cuda", torch.bfloat16) if name == "bf16" else nullcontext()


def seconds(call: Call, runs: int) -> float:
    """Median time of a call on the device, by its own events."""
    for _ in range(3):
        call()
    times = []
    for _ in range(runs):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


def peak(runs: int) -> float:
    """FLOP/s of the fastest large 3x3 convolution in the precision that is set."""
    best = 0.0
    for channels, size in CONV_SHAPES:
        x = torch.randn(8, channels, size, size, device="cuda").to(memory_format=torch.channels_last)
        weight = torch.randn(channels, channels, 3, 3, device="cuda").to(memory_format=torch.channels_last)
        flop = 2 * 9 * channels**2 * size**2 * len(x)
        best = max(best, flop / seconds(lambda x=x, weight=weight: F.conv2d(x, weight, padding=1), runs))
    return best


def as_graph(call: Call) -> Call:
    """The call captured once in a CUDA graph and replayed."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def passes(size: int, batch: int) -> tuple[float, dict[str, Call]]:
    """Multiply-adds of a picture, and the whole pass in three forms."""
    torch.manual_seed(0)
    net = GCFSR(size, variant="released", blind=size == 512).eval()
    work = macs(net, torch.zeros(1, 3, size, size), [torch.zeros(shape) for shape in net.noise_shapes()])
    net = net.cuda()
    x = torch.rand(batch, 3, size, size, device="cuda") * 2 - 1
    noise = [torch.randn(shape, device="cuda") for shape in net.noise_shapes(batch)]
    compiled = torch.compile(net)
    return work, {
        "eager": lambda: net(x, 0.5, noise=noise),
        "compiled": lambda: compiled(x, 0.5, noise=noise),
        "CUDA graph": as_graph(lambda: net(x, 0.5, noise=noise)),
    }


def inference(size: int, batch: int, runs: int) -> Iterator[tuple[str, ...]]:
    """Rows of one size and batch."""
    for name in PRECISIONS:
        with torch.inference_mode(), precision(name):
            work, calls = passes(size, batch)
            top = peak(runs)
            for form, call in calls.items():
                time = seconds(call, runs)
                share = 2 * work * batch / time / top
                yield (f"{size}", f"{batch}", name, form, f"{1e3 * time:.1f} ms", f"{batch / time:.1f}", f"{share:.0%}")


def largest_batch(size: int, runs: int) -> tuple[int, float, int, int]:
    """The largest power of two that fits: batch, seconds of an iteration (R1 amortised), bytes of gradients, peak."""
    best = (0, float("nan"), 0, 0)
    batch, step = 1, None
    while True:
        del step  # before the next one is built beside it
        torch.cuda.reset_peak_memory_stats()
        try:
            step = Step(size, narrow=1.0, batch=batch, device="cuda")
            plain, regular = (seconds(partial(step.ours, r, bf16=True), runs) for r in (False, True))
        except torch.cuda.OutOfMemoryError:
            return best
        gradients = sum(4 * p.numel() for net in (step.g, step.d) for p in net.parameters())
        iteration = (plain * (R1_EVERY - 1) + regular) / R1_EVERY
        best = (batch, iteration, gradients, torch.cuda.max_memory_allocated())
        batch *= 2


def training(size: int, runs: int) -> Iterator[tuple[str, ...]]:
    """One card measured; eight on paper, without any overlap of sending and computing."""
    batch, time, gradients, memory = largest_batch(size, runs)
    if not batch:
        yield (f"{size}", "0", "does not fit", "", "")
        return
    sending = 2 * gradients * 7 / 8 / LINK
    on_eight = f"{8 * batch / (time + sending):.1f} ({time / (time + sending):.0%})"
    yield (f"{size}", f"{batch}", f"{batch / time:.1f}", f"{memory / 2**30:.1f} GiB", on_eight)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[512, 1024])
    parser.add_argument("--train-sizes", type=int, nargs="*", default=[256, 512, 1024])
    parser.add_argument("--runs", type=int, default=20)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("gpu.py: no CUDA device here")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; median of {args.runs}\n")
    rows: list[tuple[str, ...]] = [
        ("size", "batch", "precision", "form", "a pass", "pictures/s", "share of the convolution peak")
    ]
    print(table(rows + [row for n in args.sizes for b in (1, 8) for row in inference(n, b, args.runs)]), "\n")
    rows = [("size", "largest batch, bf16", "pictures/s", "peak memory", "on eight cards, on paper (efficiency)")]
    print(table(rows + [row for n in args.train_sizes for row in training(n, args.runs)]))


if __name__ == "__main__":
    main()
