"""What a training costs, computed: `python benchmarks/cost.py [OPTIONS.yml ...]`.

Counts the floating point operations of one iteration of an option file and the memory of its networks, optimisers and
kept activations, with tensors of the meta device: nothing is trained, no GPU is needed. Hours follow from what each GPU
is assumed to reach (`GPUS`). docs/reproduce.md quotes these figures.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import yaml
from timing import table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import vgg16

from gcfsr_arch import GCFSR, GCFSRDiscriminator
from gcfsr_inference.evaluation.inventory import LiveBytes

OPTIONS = Path(__file__).resolve().parents[1] / "options"
FILES = ("x64", "released_1024", "nostyle_1024", "adv_512", "blind_512")
CONV4_3 = 22  # of torchvision's VGG16 `features`: conv4_3, before its ReLU


class Gpu(NamedTuple):
    """How many there are and the FLOP/s that each is assumed to reach."""

    count: int
    reached: float
    assumption: str


GPUS = {
    "8 V100": Gpu(8, 0.5 * 15.7e12, "half of 15.7 TFLOP/s, float32"),
    "1 H100, TF32": Gpu(1, 0.2 * 494e12, "a fifth of 494 TFLOP/s, TF32"),
}


class Cost(NamedTuple):
    """Of one iteration on `batch` images: FLOPs by part (R1 as its share of an iteration), and bytes at the peak."""

    batch: int
    flops: dict[str, int]
    peak: int

    @property
    def per_image(self) -> float:
        """FLOPs of an iteration for one image."""
        return sum(self.flops.values()) / self.batch


def counted(call: Callable[[], object]) -> tuple[int, int]:
    """FLOPs of a call, and the most bytes that its tensors hold at a time."""
    with FlopCounterMode(display=False) as flops, LiveBytes() as live:
        call()
    return flops.get_total_flops(), live.peak


def cost(opt: dict[str, Any]) -> Cost:
    """Counts an option file's iteration: G's step (Eq. 7), D's step, R1."""
    train, batch = opt["train"], opt["datasets"]["train"]["batch_size_per_gpu"]
    with torch.device("meta"):
        g = GCFSR(**{key: value for key, value in opt["network_g"].items() if key != "type"})
        d = GCFSRDiscriminator(**{key: value for key, value in opt["network_d"].items() if key != "type"})
        vgg = vgg16(weights=None).features[:CONV4_3].requires_grad_(False)
        lq, gt = (torch.empty(batch, 3, g.out_size, g.out_size) for _ in range(2))
        s = None if g.blind else torch.empty(batch)
    parts = {"G": (lambda: g(lq, s).mean().backward(), 1.0)}
    if train.get("perceptual_opt"):
        parts["perceptual"] = (lambda: perceptual(vgg, _leaf(lq), gt).backward(), 1.0)
    parts["D judges G"] = (lambda: _judge(d, _leaf(lq)).backward(), 1.0)
    parts["D"] = (lambda: F.softplus(d(torch.cat([gt, lq]))).mean().backward(), 1.0)
    if train.get("r1_reg_weight"):
        parts["R1"] = (lambda: _r1(d, _leaf(gt)).backward(), 1 / train["net_d_reg_every"])
    if train.get("net_d_first"):
        parts["G for D"] = (lambda: _restored(g, lq, s), 1.0)
    flops, peaks = {}, {}
    for name, (call, share) in parts.items():
        d.requires_grad_(name != "D judges G")
        total, peaks[name] = counted(call)
        flops[name] = int(total * share)
    step_g = sum(peaks.get(name, 0) for name in ("G", "perceptual", "D judges G"))  # G's graph lives through its losses
    states = 5 * _bytes(g) + 4 * _bytes(d)  # weights, gradients, Adam's two averages, and G's EMA
    frozen = _bytes(vgg) if "perceptual" in parts else 0
    return Cost(batch, flops, states + frozen + max(step_g, *peaks.values()))


def perceptual(vgg: nn.Module, output: Tensor, gt: Tensor) -> Tensor:
    """The perceptual loss on one layer; the ground truth's features need no graph."""
    with torch.no_grad():
        wanted = vgg(gt)
    return F.l1_loss(vgg(output), wanted)


@torch.no_grad()
def _restored(g: nn.Module, lq: Tensor, s: Tensor | None) -> Tensor:
    return g(lq, s)


def _judge(d: nn.Module, fake: Tensor) -> Tensor:
    return F.softplus(-d(fake)).mean()


def _r1(d: nn.Module, real: Tensor) -> Tensor:
    real = real * 1  # FlopCounterMode differentiates twice with respect to inner nodes only
    (slope,) = torch.autograd.grad(d(real).sum(), real, create_graph=True)
    return slope.square().sum((1, 2, 3)).mean()


def _leaf(x: Tensor) -> Tensor:
    return x.detach().clone().requires_grad_()


def _bytes(net: nn.Module) -> int:
    return sum(4 * p.numel() for p in net.parameters())


def row(path: Path) -> tuple[str, ...]:
    """One line of the table."""
    opt = yaml.safe_load(path.read_text(encoding="utf-8"))
    found, images = cost(opt), opt["train"]["total_iter"] * 24  # the paper's batch
    shares = ", ".join(f"{name} {flops / sum(found.flops.values()):.0%}" for name, flops in found.flops.items())
    days = [images * found.per_image / (gpu.count * gpu.reached) / 86400 for gpu in GPUS.values()]
    return (
        path.name, f"{found.per_image / 1e12:.2f}", shares, f"{found.peak / 2**30:.1f} GiB",
        *(f"{number:.1f}" for number in days),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, default=[OPTIONS / f"train_gcfsr_{name}.yml" for name in FILES])
    args = parser.parse_args()
    print("Computed. " + "; ".join(f"{name}: {gpu.assumption}" for name, gpu in GPUS.items()) + ".\n")
    heads = ("option file", "TFLOP per image", "parts", "peak memory of a GPU, float32", *(f"days, {n}" for n in GPUS))
    print(table([heads, *map(row, args.files)]))


if __name__ == "__main__":
    main()
