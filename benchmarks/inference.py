"""Inference against the released code: `python benchmarks/inference.py [--sizes 512 1024] [--runs 5] [--compile]`.

The reference (`gcfsr_arch.reference`) and the network hold the same parameters and take turns in one process. The
roofline is the time that the network's multiply-adds alone take at the convolution peak measured in the same process.
On a processor with bf16 arithmetic a pass in bf16 is measured too, against its own roofline.
The reference allocates as any process does; ours keeps freed memory, as `gcfsr restore` does (gcfsr_arch/devices.py).
"""

import argparse
import ctypes
import time
from collections.abc import Callable

import torch
from timing import convolution_peak, interleaved, machine, peak_memory, table
from torch.utils.flop_counter import FlopCounterMode

from gcfsr_arch import GCFSR
from gcfsr_arch.devices import M_MMAP_MAX, M_TRIM_THRESHOLD, has_bf16, keep_freed_memory
from gcfsr_arch.reference import generate

MEMORY = """
from gcfsr_arch import GCFSR
from gcfsr_arch.reference import generate
net = GCFSR({size}, variant="released", blind={blind}).eval()
x, noise = torch.rand(1, 3, {size}, {size}) * 2 - 1, [torch.randn(shape) for shape in net.noise_shapes()]
with torch.inference_mode():
    {call}
"""


def by_default(call: Callable[[], object]) -> Callable[[], object]:
    """The call as a process runs it that never asked to keep freed memory (glibc's default), inside one that did."""

    def run() -> None:
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 65536)
        libc.mallopt(M_TRIM_THRESHOLD, 128 << 10)
        libc.malloc_trim(0)
        call()
        keep_freed_memory()

    return run


def build(size: int) -> tuple[GCFSR, torch.Tensor, list[torch.Tensor]]:
    """The released network of a size (512: the blind one), an image and its noise."""
    torch.manual_seed(0)
    net = GCFSR(size, variant="released", blind=size == 512).eval()
    net.to(memory_format=torch.channels_last)  # as `gcfsr restore` does
    return net, torch.rand(1, 3, size, size) * 2 - 1, [torch.randn(shape) for shape in net.noise_shapes()]


def macs(net: GCFSR, x: torch.Tensor, noise: list[torch.Tensor]) -> float:
    """Multiply-adds of one pass, counted by torch."""
    with FlopCounterMode(display=False) as counter:
        net(x, 0.5, noise=noise)
    return counter.get_total_flops() / 2


def memory(size: int, call: str) -> float:
    """Peak bytes of one pass in a process of its own, the parameters included."""
    return peak_memory(MEMORY.format(size=size, blind=size == 512, call=call))


def measure(size: int, runs: int, peak: float, peak_bf16: float | None) -> list[tuple[str, ...]]:
    """One size: the whole pass, the dial, a sweep, a batch of four, memory; in bf16 too where that has a peak."""
    net, x, noise = build(size)
    features = net.encode(x)
    four, noise4 = x.expand(4, -1, -1, -1).contiguous(), [n.expand(4, -1, -1, -1) for n in noise]
    gmac = macs(net, x, noise) / 1e9
    seconds = interleaved(
        {
            "reference": by_default(lambda: generate(net, x, 0.5, noise)),
            "reference, memory kept": lambda: generate(net, x, 0.5, noise),
            "ours": lambda: net(x, 0.5, noise=noise),
            "dial": lambda: net.decode(features, 0.5, noise),
        },
        runs,
    )
    batch = interleaved({"batch": lambda: net(four, 0.5, noise=noise4), "one": lambda: net(x, 0.5, noise=noise)}, runs)
    sweep = interleaved({"sweep": lambda: [net.decode(features, s / 8, noise) for s in range(9)]}, max(3, runs // 2))
    roofline = 2e9 * gmac / peak
    error = (net(x, 0.5, noise=noise) - generate(net, x, 0.5, noise)).abs().max().item()
    share = memory(size, "net(x, 0.5, noise=noise)") / memory(size, "generate(net, x, 0.5, noise)")
    ours = seconds["ours"]
    rows = [
        ("multiply-adds", "", f"{gmac:.0f} G"),
        ("largest difference from the reference", "1e-5", f"{error:.1e}"),
        ("whole pass, times the reference's speed", "4x (1024), 3x (512)", f"{seconds['reference'] / ours:.2f}x"),
        ("the same, the reference keeping its memory too", "", f"{seconds['reference, memory kept'] / ours:.2f}x"),
        ("whole pass, times the roofline", "1.3x", f"{ours / roofline:.2f}x"),
        ("reference, times the roofline", "", f"{seconds['reference'] / roofline:.2f}x"),
        ("a further s, share of a whole pass", "0.55x", f"{seconds['dial'] / ours:.2f}x"),
        (
            "sweep of 9 (encoded once), in whole passes",
            "5.5x",
            f"{(sweep['sweep'] + ours - seconds['dial']) / ours:.2f}x",
        ),
        ("batch 4, time per face against batch 1", "1.0x", f"{batch['batch'] / 4 / batch['one']:.2f}x"),
        ("peak memory, share of the reference's", "0.45x", f"{share:.2f}x"),
    ]
    if peak_bf16:
        rows += measure_bf16(net, x, noise, runs, 2e9 * gmac / peak_bf16)
    return [(str(size), *row) for row in rows]


def measure_bf16(
    net: GCFSR, x: torch.Tensor, noise: list[torch.Tensor], runs: int, roofline: float
) -> list[tuple[str, ...]]:
    """A pass and a further s in bf16, as `--dtype bf16` runs them, in turns with float32."""

    def half(call: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            with torch.autocast("cpu", torch.bfloat16):
                call()

        return run

    with torch.autocast("cpu", torch.bfloat16):
        features = net.encode(x)
    whole, dial = (lambda: net(x, 0.5, noise=noise)), (lambda: net.decode(features, 0.5, noise))
    seconds = interleaved({"fp32": whole, "bf16": half(whole), "dial": half(dial)}, runs)
    return [
        ("whole pass in bf16, times the speed of float32", "", f"{seconds['fp32'] / seconds['bf16']:.2f}x"),
        ("whole pass in bf16, times its roofline", "", f"{seconds['bf16'] / roofline:.2f}x"),
        ("a further s in bf16, share of a whole pass", "", f"{seconds['dial'] / seconds['bf16']:.2f}x"),
    ]


def measure_compiled(size: int, runs: int) -> list[tuple[str, ...]]:
    """What `torch.compile` costs once and gives from then on."""
    net, x, noise = build(size)
    compiled = torch.compile(net)
    start = time.perf_counter()
    compiled(x, 0.5, noise=noise)
    first = time.perf_counter() - start
    calls = {"eager": lambda: net(x, 0.5, noise=noise), "compiled": lambda: compiled(x, 0.5, noise=noise)}
    seconds = interleaved(calls, runs)
    ratio, passes = seconds["eager"] / seconds["compiled"], first / seconds["eager"]
    return [
        (str(size), "compiled, times the speed of eager", "", f"{ratio:.2f}x"),
        (str(size), "compiling, once", "", f"{first:.0f} s, as {passes:.0f} eager passes"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="torch.compile instead of the reference")
    args = parser.parse_args()
    keep_freed_memory()
    peak = convolution_peak()
    peak_bf16 = convolution_peak(dtype=torch.bfloat16) if has_bf16(torch.device("cpu")) else None
    half = f" ({peak_bf16 / 1e9:.0f} in bf16)" if peak_bf16 else ""
    print(f"{machine()}; convolution peak {peak / 1e9:.0f} GFLOP/s{half}; median of {args.runs}\n")
    rows: list[tuple[str, ...]] = [("size", "what", "aim", "measured")]
    with torch.inference_mode():
        for size in args.sizes:
            rows += measure_compiled(size, args.runs) if args.compile else measure(size, args.runs, peak, peak_bf16)
    print(table(rows))


if __name__ == "__main__":
    main()
