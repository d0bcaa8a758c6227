"""The training step itself: Eq. 6-7 over micro-batches, the EMA, then the discriminator on the same faces."""

import dataclasses
from collections import OrderedDict
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn

from gcfsr_arch.training import engine as eng
from gcfsr_arch.training.criteria import Criteria
from gcfsr_arch.training.losses import dial_gain, draw_mismatch, per_head, r1_penalty, undo_dial

Logs = dict[str, Tensor]

SCALE_SEARCH = "fp16 gradient scale"  # overflows while the scaler looks for its scale are no fault


@dataclasses.dataclass
class Batch:
    """One (micro-)batch on the device; pictures RGB in [-1, 1]."""

    lq: Tensor  # (N, 3, S, S), already resized to the output size
    gt: Tensor  # (N, 3, S, S)
    s: Tensor | None  # (N,) the dials; None for a blind network
    factor: Tensor  # (N,) the true downscale ratios
    matched: Tensor | None  # (N,) bool: the dial is the true one; None where all are
    noise: Any  # as the generator takes it
    gain: Tensor | None = None  # (N,) what the dials do to the detail; None where the output is judged as it is
    base: Tensor | None = None  # (N, 3, S, S) what the dial leaves alone; None where that is lq
    valid: Tensor | None = None  # (N, 1, S, S) 1 inside the photograph, 0 on padding; None where all is valid

    def part(self, chosen: slice) -> "Batch":
        """A micro-batch."""
        noise = self.noise if isinstance(self.noise, str) else [n[chosen] for n in self.noise]
        optional = (self.s, self.matched, self.gain, self.base, self.valid)
        s, matched, gain, base, valid = (None if x is None else x[chosen] for x in optional)
        return Batch(self.lq[chosen], self.gt[chosen], s, self.factor[chosen], matched, noise, gain, base, valid)

    def judged(self, output: Tensor) -> Tensor:
        """The image that the losses and D see, in full precision; padding is gray, as it is in gt."""
        output = output.to(self.gt)
        if self.gain is not None:
            output = undo_dial(output, self.lq if self.base is None else self.base, self.gain)
        return output if self.valid is None else output * self.valid


class StepMixin:
    """`feed_data`, `optimize_parameters` and `get_current_log` in SRModel's place."""

    opt: dict[str, Any]
    device: torch.device
    engine: eng.Engine
    criteria: Criteria
    net_g: nn.Module
    net_d: nn.Module | None
    net_g_ema: nn.Module
    with_ema: bool
    step_g: eng.GuardedStep
    step_d: eng.GuardedStep
    guard: eng.BadSteps
    last_checkpoint: str | None
    seen: int  # pictures so far, over all ranks
    latest: Logs  # losses of the latest sound steps

    def feed_data(self, data: dict[str, Any]) -> None:
        """Takes a batch of a data set: lq, gt, s, factor."""
        self.lq = self.engine.picture(data["lq"].to(self.device, non_blocking=True))
        if "gt" in data:
            self.gt = self.engine.picture(data["gt"].to(self.device, non_blocking=True))
        self.base, self.valid = (data[key].to(self.lq) if key in data else None for key in ("base", "valid"))
        if self.valid is not None:
            self.gt = self.gt * self.valid
        blind = self.get_bare_model(self.net_g).blind
        self.s = None if blind else data["s"].to(self.lq).flatten()
        self.factor = torch.as_tensor(data.get("factor", 1.0)).expand(len(self.lq)).to(self.device)

    def draw_noise(self, batch: int) -> Any:
        """The generator's noise for a batch of that size."""
        word = self.opt["train"].get("noise", "random")
        if word != "zero":
            return word
        shapes = self.get_bare_model(self.net_g).noise_shapes(batch)
        return [self.lq.new_zeros(shape) for shape in shapes]  # maps, so that DDP sees every parameter used

    def _draw_batch(self) -> Batch:
        mismatch, s, matched, gain = self.opt["train"].get("mismatch"), self.s, None, None
        if mismatch and s is not None:
            net = self.get_bare_model(self.net_g)
            s, matched = draw_mismatch(s, mismatch["prob"], mismatch["octaves"], net.min_factor / net.max_factor)
            if mismatch.get("gain") is not None:  # every sample is then held by every loss
                matched, gain = None, dial_gain(self.s, s, mismatch["gain"])
        noise = self.draw_noise(len(self.lq))
        return Batch(self.lq, self.gt, s, self.factor, matched, noise, gain, self.base, self.valid)

    def optimize_parameters(self, current_iter: int) -> None:
        """One iteration: G's step (Eq. 7 with D fixed), the EMA of G, then D's step on the same restored faces.

        With `net_d_first` D steps before, on restored faces of its own (with noise of their own), as the released code
        does. A step that is not finite is skipped, and so is the one after it; the one before it stays.
        """
        train, batch = self.opt["train"], self._draw_batch()
        its_turn = current_iter > train.get("net_d_init_iters", 0) and current_iter % train.get("net_d_iters", 1) == 0
        step_g = its_turn or self.net_d is None
        d_first = self.net_d is not None and train.get("net_d_first", False)
        self.seen += len(self.lq) * self.opt.get("world_size", 1)
        fakes, bad = [], None
        if d_first:
            bad = self._discriminator_step(batch, self._restore(batch), current_iter)
        if step_g and bad is None:
            fakes, bad = self._generator_step(batch)
        if self.net_d is not None and not d_first and bad is None:
            bad = self._discriminator_step(batch, fakes or self._restore(batch), current_iter)
        if bad is None:
            self.guard.good()
        elif bad != SCALE_SEARCH:
            get_root_logger().warning(self.guard.bad(current_iter, bad, self.last_checkpoint))

    @torch.no_grad()
    def _restore(self, batch: Batch) -> list[Tensor]:
        """The micro-batches' restored faces, without a graph."""
        parts = [batch.part(chosen) for chosen, _, _ in eng.micro_batches(len(batch.lq), self.engine.accumulate)]
        with self.engine.autocast(self.device):
            return [part.judged(self.net_g(part.lq, part.s, noise=part.noise)) for part in parts]

    def _generator_step(self, batch: Batch) -> tuple[list[Tensor], str | None]:
        """G's step and its EMA; returns the restored faces, and what was not finite or None."""
        logs, fakes, judge = _Sums(), [], self.get_bare_model(self.net_d) if self.net_d is not None else None
        judge_params = [p for p in judge.parameters() if p.requires_grad] if judge is not None else []
        with eng.frozen(judge_params):  # D only judges: no gradients for it, no synchronisation
            for chosen, share, last in eng.micro_batches(len(batch.lq), self.engine.accumulate):
                part = batch.part(chosen)
                with eng.sync_only(last, self.net_g):
                    with self.engine.autocast(self.device):
                        output = self.net_g(part.lq, part.s, noise=part.noise)
                    output = part.judged(output)
                    losses = self.criteria.generator(output, part, judge, self.engine)
                    self.step_g.backward(torch.stack(list(losses.values())).sum() * share)
                fakes.append(output.detach())
                logs.add(losses, share)
        bad = self._finish("generator", self.step_g, logs)
        if self.with_ema and bad is None:
            decay = eng.ema_decay(self.opt["train"], len(self.lq) * self.opt.get("world_size", 1), self.seen)
            eng.update_ema(self.net_g_ema, self.get_bare_model(self.net_g), decay)
        return fakes, bad

    def _discriminator_step(self, batch: Batch, fakes: list[Tensor], current_iter: int) -> str | None:
        every, weight = self.opt["train"].get("net_d_reg_every", 16), self.opt["train"].get("r1_reg_weight", 0)
        logs = _Sums()
        for fake, (chosen, share, last) in zip(
            fakes, eng.micro_batches(len(batch.lq), self.engine.accumulate), strict=True
        ):
            real = batch.gt[chosen]
            with eng.sync_only(last, self.net_d):
                losses, scores = self._judge(real, fake)
                if weight and current_iter % every == 0:
                    losses["l_d_r1"] = weight / 2 * every * self._r1(real)
                self.step_d.backward(torch.stack(list(losses.values())).sum() * share)
            logs.add(losses, share)
            logs.add(scores, share)
        return self._finish("discriminator", self.step_d, logs)

    def _judge(self, real: Tensor, fake: Tensor) -> tuple[Logs, Logs]:
        """D's losses on real and restored faces, in one forward pass but where D compares the faces of a batch."""
        with self.engine.autocast(self.device):
            if getattr(self.get_bare_model(self.net_d), "minibatch_std", False):
                on_real, on_fake = per_head(self.net_d(real)), per_head(self.net_d(fake))
            else:
                heads = per_head(self.net_d(torch.cat([real, fake])))
                on_real, on_fake = zip(*(head.split([len(real), len(fake)]) for head in heads), strict=True)
        scores = {
            "out_d_real": torch.stack([x.detach().mean() for x in on_real]).mean(),
            "out_d_fake": torch.stack([x.detach().mean() for x in on_fake]).mean(),
        }
        return {"l_d_gan": self.criteria.gan.discriminator(on_real, on_fake)}, scores

    def _r1(self, real: Tensor) -> Tensor:
        """R1 in full precision. It calls the bare network's `forward`: compiled graphs have no second derivative."""
        real = real.detach().clone().requires_grad_(True)
        return r1_penalty(self.get_bare_model(self.net_d).forward(real), real)

    def _finish(self, who: str, step: eng.GuardedStep, logs: "_Sums") -> str | None:
        """Steps; returns what was not finite, or None."""
        total = torch.stack([v for k, v in logs.items() if k.startswith("l_")]).sum()
        if step.step(total):
            self.latest.update(logs)
            return None
        wrong = [f"{name} {value.item():.3g}" for name, value in logs.items() if not torch.isfinite(value)]
        if step.searching:
            return SCALE_SEARCH
        return f"{who}'s {', '.join(wrong) or 'gradient'}"

    def get_current_log(self) -> "OrderedDict[str, float]":
        """Losses of the latest sound steps, averaged over ranks; every rank must call it."""
        if not self.latest:
            return OrderedDict()
        values = torch.stack([v.detach().double() for v in self.latest.values()])
        if self.opt["dist"]:
            torch.distributed.all_reduce(values)
            values /= self.opt["world_size"]
        return OrderedDict(zip(self.latest, values.tolist(), strict=True))


class _Sums(dict[str, Tensor]):
    """Logged values summed over micro-batches by their share, apart from what is differentiated."""

    def add(self, values: Logs, share: float) -> None:
        """Adds a micro-batch's values, whose share of the batch is given."""
        for name, value in values.items():
            self[name] = self.get(name, 0.0) + value.detach() * share
