"""Operators, convolutions and memory of a training step and a pass at 1024, counted: `python benchmarks/budget.py`.

Tensors of the meta device: nothing is computed and no GPU is needed. `tests/arch/test_budget.py` holds the counts under
a budget. Peak memory is what the tensors hold, without the workspace and the fragmentation of a device.
"""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from timing import table
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from gcfsr_arch import GCFSR, GCFSRDiscriminator
from gcfsr_inference.evaluation.inventory import LiveBytes, bytes_of

CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)


class Counts(NamedTuple):
    """Of one part of a step."""

    operators: int
    convolutions: int  # forward and backward
    saved: int  # bytes of activations that autograd keeps, parameters not counted
    peak: int  # largest sum of the bytes of live tensors, parameters not counted


class CountOperators(TorchDispatchMode):
    """Counts ATen operators and, among them, convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.operators = self.convolutions = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators += 1
        self.convolutions += func in CONVOLUTIONS
        return func(*args, **kwargs or {})


class Networks(NamedTuple):
    """G, D and a batch on the meta device."""

    g: GCFSR
    d: GCFSRDiscriminator
    x: Tensor
    s: Tensor


def networks(batch: int, out_size: int = 1024, checkpointing: bool = False, **options: Any) -> Networks:
    """The paper's networks at full width."""
    with torch.device("meta"):
        g, d = GCFSR(out_size, **options), GCFSRDiscriminator(out_size)
        g.checkpoint_levels = checkpointing
        return Networks(g, d, torch.empty(batch, 3, out_size, out_size), torch.empty(batch))


def parts(of: Networks) -> dict[str, Callable[[], Tensor]]:
    """The parts of an iteration up to their loss, and the two halves of a pass (without gradients)."""
    g, d, x, s = of

    def r1() -> Tensor:
        real = x.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(d(real).sum(), real, create_graph=True)
        return slope.square().sum((1, 2, 3)).mean()

    @torch.no_grad()
    def encode() -> Tensor:
        return g.encode(x).top

    with torch.no_grad():
        features = g.encode(x)

    @torch.no_grad()
    def decode() -> Tensor:
        return g.decode(features, s)

    def step_g() -> Tensor:
        d.requires_grad_(False)
        loss = F.softplus(-d(g(x, s))).mean()
        d.requires_grad_(True)
        return loss

    def step_d() -> Tensor:
        return F.softplus(d(torch.cat([x, x]))).mean()

    return {"G's step": step_g, "D's step": step_d, "R1": r1, "encode": encode, "decode": decode}


def counted(call: Callable[[], Tensor], nets: tuple[nn.Module, ...]) -> Counts:
    """Counts one part, its backward pass included where it has one."""
    own = {p.untyped_storage()._cdata for net in nets for p in net.parameters()}
    storages: dict[int, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        storages[x.untyped_storage()._cdata] = x
        return x

    with saved_tensors_hooks(keep, lambda x: x):
        call()
    saved = sum(x.untyped_storage().nbytes() for key, x in storages.items() if key not in own)
    storages.clear()
    for net in nets:
        net.zero_grad()
    with CountOperators() as count, LiveBytes() as live:
        loss = call()
        if loss.requires_grad:
            loss.backward()
    return Counts(count.operators, count.convolutions, saved, live.peak)


def measure(batch: int, checkpointing: bool = False, **options: Any) -> dict[str, Counts]:
    """Counts of every part at one batch size."""
    of = networks(batch, checkpointing=checkpointing, **options)
    return {name: counted(call, (of.g, of.d)) for name, call in parts(of).items()}


def training_peak(counts: dict[str, Counts], g: nn.Module, d: nn.Module) -> int:
    """Bytes of a training at its peak: weights, gradients, Adam's averages, EMA, and the largest part of a step."""
    states = 5 * bytes_of(g) + 4 * bytes_of(d)
    return states + max(counts[name].peak for name in ("G's step", "D's step", "R1"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 3, 4])
    args = parser.parse_args()
    of = networks(1)
    first = measure(1)
    rows: list[tuple[str, ...]] = [
        ("batch 1, float32", "operators", "convolutions", "activations kept", "peak of the part")
    ]
    rows += [
        (name, f"{c.operators:,}", str(c.convolutions), f"{c.saved / 1e9:.2f} GB", f"{c.peak / 1e9:.2f} GB")
        for name, c in first.items()
    ]
    print(table(rows) + "\n")
    rows = [("batch", "peak of a training", "with `checkpointing`")]
    for batch in args.batches:
        peaks = [training_peak(measure(batch, again), of.g, of.d) for again in (False, True)]
        rows.append((str(batch), *(f"{peak / 1e9:.1f} GB" for peak in peaks)))
    print(table(rows))


if __name__ == "__main__":
    main()
