"""A training step against the released step's structure: `python benchmarks/training.py [--sizes 64 128] [--profile]`.

Both hold the same networks and losses (L1, adversarial, R1 every 16 iterations; no perceptual term) and take turns in
one process. The released structure builds the generator's graph in the discriminator's step too, passes real and
restored faces through the discriminator apart, computes in NCHW with materialised kernels (`gcfsr_arch.reference`), in
full precision.
"""

import argparse
import copy

import torch
import torch.nn.functional as F
from timing import interleaved, machine, table
from torch import Tensor

from gcfsr_arch import GCFSR, GCFSRDiscriminator
from gcfsr_arch.devices import keep_freed_memory
from gcfsr_arch.reference import discriminate, generate

BATCH, R1_EVERY = 4, 16


class Step:
    """Networks, optimisers and one batch."""

    def __init__(self, size: int, narrow: float, batch: int = BATCH, device: str = "cpu") -> None:
        torch.manual_seed(0)
        self.device = torch.device(device)
        self.g = GCFSR(size, narrow=narrow, variant="released", num_style_feat=round(512 * narrow)).to(self.device)
        self.d = GCFSRDiscriminator(size, narrow=narrow).to(self.device)
        self.opt_g = torch.optim.Adam(self.g.parameters(), 2e-3, betas=(0.0, 0.99))
        self.opt_d = torch.optim.Adam(self.d.parameters(), 2e-3, betas=(0.0, 0.99))
        self.lq, self.gt = (torch.rand(batch, 3, size, size).to(self.device) * 2 - 1 for _ in range(2))
        self.s = torch.rand(batch).to(self.device)

    def r1(self, score: Tensor, real: Tensor) -> Tensor:
        (grad,) = torch.autograd.grad(score.sum(), real, create_graph=True)
        return 5 * R1_EVERY * grad.square().sum((1, 2, 3)).mean()

    def released(self, regularise: bool) -> None:
        """One iteration in the released structure."""
        self.d.requires_grad_(False)
        self.opt_g.zero_grad()
        fake = generate(self.g, self.lq, self.s, self.noise())
        (F.l1_loss(fake, self.gt) + 0.01 * F.softplus(-discriminate(self.d, fake)).mean()).backward()
        self.opt_g.step()
        self.d.requires_grad_(True)
        self.opt_d.zero_grad()
        fake = generate(self.g, self.lq, self.s, self.noise())  # with its graph
        on_fake, on_real = discriminate(self.d, fake.detach()), discriminate(self.d, self.gt)
        loss = F.softplus(on_fake).mean() + F.softplus(-on_real).mean()
        if regularise:
            real = self.gt.clone().requires_grad_()
            loss = loss + self.r1(discriminate(self.d, real), real)
        loss.backward()
        self.opt_d.step()

    def ours(self, regularise: bool, bf16: bool = False) -> None:
        """One iteration as `gcfsr_arch.training.step` has it."""
        last = torch.channels_last
        lq, gt = self.lq.contiguous(memory_format=last), self.gt.contiguous(memory_format=last)
        self.d.requires_grad_(False)
        self.opt_g.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            fake = self.g(lq, self.s)
            score = self.d(fake)
        (F.l1_loss(fake.float(), gt) + 0.01 * F.softplus(-score.float()).mean()).backward()
        self.opt_g.step()
        self.d.requires_grad_(True)
        self.opt_d.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            on_real, on_fake = self.d(torch.cat([gt, fake.detach().to(gt)])).float().chunk(2)
        loss = F.softplus(on_fake).mean() + F.softplus(-on_real).mean()
        if regularise:
            real = gt.clone().requires_grad_()
            loss = loss + self.r1(self.d(real), real)
        loss.backward()
        self.opt_d.step()

    def noise(self) -> list[Tensor]:
        return [torch.randn(shape) for shape in self.g.noise_shapes(BATCH)]


def amortised(seconds: dict[str, float], name: str) -> float:
    """Mean time of an iteration when one in R1_EVERY is regularised."""
    return (seconds[name] * (R1_EVERY - 1) + seconds[f"{name}, R1"]) / R1_EVERY


def measure(size: int, narrow: float, runs: int) -> tuple[str, ...]:
    """Ratios at one size."""
    plain, fast, half = (Step(size, narrow) for _ in range(3))
    for net in (fast.g, fast.d, half.g, half.d):
        net.to(memory_format=torch.channels_last)
    check = copy.deepcopy(fast.g).eval()
    noise = fast.noise()
    with torch.no_grad():
        error = (check(fast.lq, fast.s, noise=noise) - generate(check, fast.lq, fast.s, noise)).abs().max()
    calls = {}
    for name, call in (("plain", plain.released), ("fast", fast.ours), ("bf16", lambda r: half.ours(r, bf16=True))):
        calls[name] = lambda call=call: call(False)
        calls[f"{name}, R1"] = lambda call=call: call(True)
    seconds = interleaved(calls, runs)
    reference = amortised(seconds, "plain")
    ratios = [f"{reference / amortised(seconds, name):.2f}x" for name in ("fast", "bf16")]
    return (str(size), f"{narrow:g}", *ratios, f"{error:.1e}")


def profile(size: int, narrow: float, top: int = 8) -> list[tuple[str, ...]]:
    """Where the time of an iteration without R1 goes: the operators with the largest share, in both structures."""
    step = Step(size, narrow)
    rows = []
    for name, call in (("released structure", step.released), ("ours", step.ours)):
        call(False)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as trace:
            call(False)
        events = sorted(trace.key_averages(), key=lambda event: -event.self_cpu_time_total)
        total = sum(event.self_cpu_time_total for event in events)
        shares = ", ".join(f"{e.key.removeprefix('aten::')} {e.self_cpu_time_total / total:.0%}" for e in events[:top])
        rows.append((str(size), name, shares))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--narrow", type=float, default=0.25)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="shares of the operators instead of ratios")
    args = parser.parse_args()
    keep_freed_memory()
    print(f"{machine()}; batch {BATCH}; median of {args.runs}\n")
    rows: list[tuple[str, ...]]
    if args.profile:
        rows = [("size", "structure", "share of the processor time")]
        rows += [row for size in args.sizes for row in profile(size, args.narrow)]
    else:
        rows = [("size", "narrow", "fp32, aim 2x", "bf16 autocast", "largest difference of G")]
        rows += [measure(size, args.narrow, args.runs) for size in args.sizes]
    print(table(rows))


if __name__ == "__main__":
    main()
