"""The training step itself: Eq. 6-7 over micro-batches, the EMA, then the discriminator on the same faces."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from gcfsr_arch.conditions import CONDITIONS
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.estimator import Estimate
from gcfsr_arch.training import engine as eng
from gcfsr_arch.training.losses import (
    accuracy,
    dial_gain,
    draw_mismatch,
    draw_settings,
    per_head,
    r1_penalty,
    remainder,
    share_left,
    undo_dial,
)
from gcfsr_arch.training.losses.criteria import Criteria
from gcfsr_arch.training.options.optimizers import SCHEDULE_FREE, Optimizer
from gcfsr_arch.training.options.schema import Train

Logs = dict[str, Tensor]
OURS = "use MultiFactorDegradationDataset, or one that gives lq and gt at out_size in [-1, 1], s and factor"


@dataclasses.dataclass
class Batch:
    """One (micro-)batch on the device; images RGB in [-1, 1]."""

    lq: Tensor  # (N, 3, S, S), already resized to the output size
    gt: Tensor | None  # (N, 3, S, S); None where a validation set has no ground truth
    s: Tensor | None  # (N, k) the dials, the factor's first; None for a blind network
    factor: list[float] | None  # the N true downscale ratios, on the host; None where the data set gives none
    matched: Tensor | None = None  # (N,) bool: the dial is the true one; None where all are
    noise: Any = "random"  # as the generator takes it
    gain: Tensor | None = None  # (N,) what the dials do to the detail; None where the output is judged as it is
    base: Tensor | None = None  # (N, 3, S, S) what the dial leaves alone; None where that is lq
    valid: Tensor | None = None  # (N, 1, S, S) 1 inside the photograph, 0 on padding; None where all is valid
    true: Tensor | None = None  # (N, k) the conditions of the input, where dials may be elsewhere; None as s
    contributions: Tensor | None = None  # (N, 3, 3, S, S) what blur, noise and JPEG did to lq; None if not given
    left: Tensor | None = None  # (N, k - 1) the shares of these that the dials leave; None where they leave nothing
    average: Tensor | None = None  # (N, 3, S, S) what the moving average makes of lq, for LDL; otherwise None

    def part(self, chosen: slice) -> "Batch":
        """A micro-batch."""
        noise = self.noise if isinstance(self.noise, str) else [n[chosen] for n in self.noise]
        values = {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self) if spec.name != "noise"}
        return Batch(**{name: None if x is None else x[chosen] for name, x in values.items()}, noise=noise)

    def judged(self, output: Tensor) -> Tensor:
        """The image that the losses and D see, in full precision; padding is gray, as it is in gt."""
        output = output.to(self.gt)
        if self.left is not None:
            output = output - remainder(self.left, self.contributions)
        if self.gain is not None:
            output = undo_dial(output, self.lq if self.base is None else self.base, self.gain)
        return output if self.valid is None else output * self.valid


@dataclasses.dataclass
class Networks:
    """The networks of a training; g and d may be wrapped for several ranks."""

    g: nn.Module
    d: nn.Module | None = None
    ema: nn.Module | None = None  # the moving average of g


@dataclasses.dataclass
class Outcome:
    """A step of one optimiser: its numbers, on the device until they are read."""

    who: str
    logs: Logs  # losses and scores
    taken: Tensor  # () 1.0, or 0.0 where this step or one before it in the iteration was not finite
    scale: Tensor | None  # () of fp16 gradients

    def numbers(self) -> Tensor:
        """All of them as (2 + len(logs),) float64."""
        scale = self.taken.new_zeros(()) if self.scale is None else self.scale
        return torch.stack([x.detach().double() for x in (self.taken, scale, *self.logs.values())])


@dataclasses.dataclass
class Iteration:
    """The steps of an iteration, whose numbers are on their way to the host."""

    number: int
    last_checkpoint: str | None  # named where the run stops
    steps: list[Outcome]
    accuracy: Tensor | None  # () D's, where it may pause

    def __post_init__(self) -> None:
        accuracy = [] if self.accuracy is None else [self.accuracy.double().view(1)]
        self.sent = eng.Later(torch.cat([*(step.numbers() for step in self.steps), *accuracy]))


class TrainingStep:
    """One iteration after another: networks, losses, optimisers and counters, but neither data nor files.

    Args:
        options: the block `train`.
        engine: how a step is computed, resolved for the device.
        nets: the networks.
        device: where they are.
        world_size: number of ranks.
        warn: called with a line for every skipped step.

    Raises:
        GCFSRError: a discriminator without an optimiser, a loss without its average, or losses that cannot be built.
    """

    def __init__(
        self, options: Train, engine: eng.Engine, nets: Networks, device: torch.device, world_size: int = 1,
        warn: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        self.options, self.engine, self.nets, self.device, self.world_size = options, engine, nets, device, world_size
        self.criteria = Criteria(options).to(device)
        if nets.d is not None and options.optim_d is None:
            raise GCFSRError("train.optim_d: the discriminator has no optimiser; add it as in optim_g")
        if self.criteria.needs_average and nets.ema is None:
            raise GCFSRError("train.losses: LDLLoss compares with the moving average; set train.ema_decay")
        self.g = self._guarded(options.optim_g, nets.g, engine.clip_grad_g)
        self.d = None if nets.d is None else self._guarded(options.optim_d, nets.d, engine.clip_grad_d)
        self.guard = eng.BadSteps(options.max_bad_steps)
        self.seen = 0  # images so far, over all ranks
        self.latest: dict[str, float] = {}  # losses of the latest steps that were taken
        self.accuracy = 0.5  # D's, averaged over some tens of steps
        self.warn = warn
        self.unread: Iteration | None = None

    def _guarded(self, options: Optimizer, net: nn.Module, clip: float | None) -> eng.GuardedStep:
        optimizer = eng.build_optimizer(options, [p for p in net.parameters() if p.requires_grad])
        return eng.GuardedStep(optimizer, self.device, self.engine.amp == "fp16", clip)

    def optimizers(self) -> list[tuple[torch.optim.Optimizer, Optimizer]]:
        """Each optimiser with its options."""
        steps = [(self.g, self.options.optim_g), (self.d, self.options.optim_d)]
        return [(step.optimizer, options) for step, options in steps if step is not None and options is not None]

    def draw_noise(self, batch: Batch) -> Any:
        """The generator's noise for a batch."""
        if self.options.noise != "zero":
            return self.options.noise
        shapes = eng.bare(self.nets.g).noise_shapes(len(batch.lq))
        return [batch.lq.new_zeros(shape) for shape in shapes]  # maps, so that DDP sees every parameter used

    def drawn(self, batch: Batch) -> Batch:
        """The batch with everything that is drawn for it: noise, and dials moved off their true place."""
        mismatch, s, matched, gain, left = self.options.mismatch, batch.s, None, None, None
        if mismatch and s is not None:
            net, (factor, others) = eng.bare(self.nets.g), s.tensor_split([1], dim=1)
            s_min = net.min_factor / net.max_factor
            moved, matched = draw_mismatch(factor[:, 0], mismatch.prob, mismatch.octaves, s_min)
            if mismatch.gain is not None:  # every sample is then held by every loss
                matched, gain = None, dial_gain(factor[:, 0], moved, mismatch.gain)
            if mismatch.dials:
                used = draw_settings(others, mismatch.dials)
                left, others = share_left(others, used), used
            s = torch.cat([moved[:, None], others], dim=1)
        noise = self.draw_noise(batch)
        return dataclasses.replace(batch, s=s, matched=matched, gain=gain, left=left, true=batch.s, noise=noise)

    def run(self, batch: Batch, iteration: int, last_checkpoint: str | None = None) -> None:
        """One iteration: G's step (Eq. 7 with D fixed), the EMA of G, then D's step on the same restored faces.

        With `net_d_first` D steps before, on restored faces of its own (with noise of their own), as the released code
        does. A step that is not finite is skipped, and so is the one after it; the one before it stays. The device
        decides that; the host reads it in the next iteration (`settle`) and never waits for the device here.

        Args:
            batch: the data.
            iteration: from 1 on.
            last_checkpoint: named where the run stops.

        Raises:
            GCFSRError: the batch has no gt or factor, or too many steps in a row before it were not finite.
        """
        self.settle()
        if batch.gt is None:
            raise GCFSRError(f"datasets.train: the data set gives no gt; {OURS}")
        if batch.factor is None and self.criteria.needs_factor:
            keys = "train.consistency_opt and train.gan_opt.full_factor"
            raise GCFSRError(f"datasets.train: the data set gives no factor, which {keys} need; {OURS}")
        train, batch = self.options, self.drawn(batch)
        its_turn = iteration > train.net_d_init_iters and iteration % train.net_d_iters == 0
        step_g = its_turn or self.d is None
        d_first = self.d is not None and train.net_d_first
        self.seen += len(batch.lq) * self.world_size
        fakes, steps, accuracy = [], [], None
        if d_first:
            accuracy = self._discriminator_step(batch, self._restored(batch), iteration, steps)
        if step_g:
            fakes = self._generator_step(batch, steps)
        if self.d is not None and not d_first:
            accuracy = self._discriminator_step(batch, fakes or self._restored(batch), iteration, steps)
        self.unread = Iteration(iteration, last_checkpoint, steps, accuracy)

    def settle(self) -> None:
        """Reads the outcome of the latest iteration: losses, steps that were skipped, D's accuracy.

        Raises:
            GCFSRError: too many steps in a row were not finite.
        """
        done, self.unread = self.unread, None
        if done is None:
            return
        numbers = done.sent.read()
        if done.accuracy is not None:
            self.accuracy += 0.05 * (numbers.pop() - self.accuracy)
        for step in done.steps:
            (taken, scale, *logs), numbers = numbers[: 2 + len(step.logs)], numbers[2 + len(step.logs) :]
            values = dict(zip(step.logs, logs, strict=True))
            if not taken:
                if scale <= 1:  # overflows while a scaler looks for its scale are expected
                    wrong = ", ".join(f"{name} {value:.3g}" for name, value in values.items() if not isfinite(value))
                    what = f"{step.who}'s {wrong or 'gradient'}"
                    self.warn(self.guard.bad(done.number, what, done.last_checkpoint))
                return
            self.latest.update(values)
        self.guard.good()

    @torch.no_grad()
    def _restored(self, batch: Batch) -> list[Tensor]:
        """The micro-batches' restored faces, without a graph."""
        parts = [batch.part(chosen) for chosen, _, _ in eng.micro_batches(len(batch.lq), self.engine.accumulate)]
        with self.engine.autocast(self.device):
            return [part.judged(self.nets.g(part.lq, part.s, noise=part.noise)) for part in parts]

    @torch.no_grad()
    def _averages(self, part: Batch) -> Tensor:
        """The faces that the moving average restores."""
        with self.engine.autocast(self.device):
            output = self.nets.ema(part.lq, part.s, noise=part.noise)
        return part.judged(output)

    def _restored_and_estimated(self, part: Batch) -> tuple[Tensor, Estimate | None]:
        loss = self.options.estimate_opt
        if loss is None:
            return self.nets.g(part.lq, part.s, noise=part.noise), None
        return self.nets.g(part.lq, part.s, noise=part.noise, estimate="detached" if loss.detach else "joint")

    def _generator_step(self, batch: Batch, steps: list[Outcome]) -> list[Tensor]:
        """Steps G and its average; returns the micro-batches' restored faces."""
        logs, fakes, judge = _Sums(), [], None if self.nets.d is None else eng.bare(self.nets.d)
        judge_params = [p for p in judge.parameters() if p.requires_grad] if judge is not None else []
        with eng.frozen(judge_params):  # D only judges: no gradients for it, no synchronisation
            for chosen, share, last in eng.micro_batches(len(batch.lq), self.engine.accumulate):
                part = batch.part(chosen)
                with eng.sync_only(last, self.nets.g):
                    with self.engine.autocast(self.device):
                        output, estimate = self._restored_and_estimated(part)
                    output = part.judged(output)
                    if self.criteria.needs_average:
                        part = dataclasses.replace(part, average=self._averages(part))
                    losses = self.criteria.generator(output, part, judge, self.engine)
                    losses |= self.criteria.estimator(estimate, part)
                    self.g.backward(torch.stack(list(losses.values())).sum() * share)
                fakes.append(output.detach())
                logs.add(losses, share)
        taken = self._finish("generator", self.g, logs, steps)
        if self.nets.ema is not None:
            self._average(self.nets.ema, len(batch.lq) * self.world_size, taken)
        return fakes

    def _average(self, average: nn.Module, global_batch: int, taken: Tensor) -> None:
        """Renews G's average: that of a schedule-free optimiser, or the moving one."""
        if self.options.optim_g.type in SCHEDULE_FREE:
            eng.schedule_free_average(average, eng.bare(self.nets.g), self.g.optimizer)
        else:
            eng.update_ema(average, eng.bare(self.nets.g), eng.ema_decay(self.options, global_batch, self.seen), taken)

    def _discriminator_step(
        self, batch: Batch, fakes: list[Tensor], iteration: int, steps: list[Outcome]
    ) -> Tensor | None:
        """Steps D, unless it pauses; returns its accuracy where that decides about pauses."""
        accuracy = None
        if self.options.net_d_pause is not None:
            accuracy = self._accuracy(batch, fakes)
            if self.accuracy > self.options.net_d_pause:
                return accuracy
        every = self.options.net_d_reg_every
        logs = _Sums()
        for fake, (chosen, share, last) in zip(
            fakes, eng.micro_batches(len(batch.lq), self.engine.accumulate), strict=True
        ):
            real = batch.gt[chosen]
            for name, weight, faces in self._penalties(real, fake) if iteration % every == 0 else ():
                # alone, so that its second derivatives are computed in full precision too
                with eng.full_float32(), eng.sync_only(False, self.nets.d):
                    penalty = weight / 2 * every * self._r1(faces)
                    self.d.backward(penalty * share)
                logs.add({name: penalty}, share)
            with eng.sync_only(last, self.nets.d):
                losses, scores = self._judge(real, fake)
                self.d.backward(losses["l_d_gan"] * share)
            logs.add(losses, share)
            logs.add(scores, share)
        self._finish("discriminator", self.d, logs, steps)
        return accuracy

    def _judge(self, real: Tensor, fake: Tensor) -> tuple[Logs, Logs]:
        """D's losses on real and restored faces, in one forward pass, except where D compares the faces of a batch."""
        with self.engine.autocast(self.device):
            if getattr(eng.bare(self.nets.d), "minibatch_std", False):
                on_real, on_fake = per_head(self.nets.d(real)), per_head(self.nets.d(fake))
            else:
                heads = per_head(self.nets.d(torch.cat([real, fake])))
                on_real, on_fake = zip(*(head.split([len(real), len(fake)]) for head in heads), strict=True)
        scores = {
            "out_d_real": torch.stack([x.detach().mean() for x in on_real]).mean(),
            "out_d_fake": torch.stack([x.detach().mean() for x in on_fake]).mean(),
        }
        return {"l_d_gan": self.criteria.gan.discriminator(on_real, on_fake)}, scores

    def _penalties(self, real: Tensor, fake: Tensor) -> list[tuple[str, float, Tensor]]:
        """The gradient penalties of the options: name, weight, faces."""
        asked = [("l_d_r1", self.options.r1_reg_weight, real), ("l_d_r2", self.options.r2_reg_weight, fake)]
        return [(name, weight, faces) for name, weight, faces in asked if weight]

    @torch.no_grad()
    def _accuracy(self, batch: Batch, fakes: list[Tensor]) -> Tensor:
        """The share of faces that D tells apart, over all ranks."""
        with self.engine.autocast(self.device):
            scores = [self.nets.d(faces) for faces in (batch.gt, torch.cat(fakes))]
        return eng.mean_over_ranks(accuracy(*scores, self.criteria.gan.relativistic))

    def _r1(self, real: Tensor) -> Tensor:
        """R1 in full precision. It calls the bare network's `forward`: compiled graphs have no second derivative."""
        real = real.detach().clone().requires_grad_(True)
        return r1_penalty(eng.bare(self.nets.d).forward(real), real)

    def _finish(self, who: str, step: eng.GuardedStep, logs: "_Sums", steps: list[Outcome]) -> Tensor:
        """Steps after the iteration's other steps so far and adds the outcome; returns whether it was taken."""
        total = torch.stack([v for k, v in logs.items() if k.startswith("l_")]).sum()
        before, scale = steps[-1].taken if steps else total.new_ones((), dtype=torch.float32), step.scale()
        taken = step.step(total, before)
        steps.append(Outcome(who, logs, taken, scale))
        return taken

    def log(self) -> "OrderedDict[str, float]":
        """Losses of the latest steps that were taken, averaged over ranks; every rank must call it.

        It waits for the device, so that this iteration is among them.
        """
        self.settle()
        if not self.latest:
            return OrderedDict()
        values = torch.tensor(list(self.latest.values()), dtype=torch.float64, device=self.device)
        return OrderedDict(zip(self.latest, eng.mean_over_ranks(values).tolist(), strict=True))

    # ---- what a checkpoint holds of it -----------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Plain data: gradient scales, counters, and losses that are logged between their steps.

        Raises:
            GCFSRError: too many steps in a row up to now were not finite.
        """
        self.settle()
        return {
            "scalers": [step.scaler.state_dict() for step in (self.g, self.d) if step is not None],
            "bad_in_a_row": self.guard.in_a_row,
            "bad_total": self.guard.total,
            "seen": self.seen,
            "accuracy": self.accuracy,
            "latest": dict(self.latest),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores what `state` returned."""
        steps = [step for step in (self.g, self.d) if step is not None]
        for step, scaler in zip(steps, state["scalers"], strict=True):
            if scaler:
                step.scaler.load_state_dict(scaler)
        self.guard.in_a_row, self.guard.total, self.seen = state["bad_in_a_row"], state["bad_total"], state["seen"]
        self.accuracy = state.get("accuracy", self.accuracy)  # states before net_d_pause have none
        self.latest = dict(state["latest"])


def batch_on(device: torch.device, data: dict[str, Any], net: nn.Module, engine: eng.Engine) -> Batch:
    """A data set's batch (lq, gt, s or conditions, factor, base, valid, contributions) on the device.

    Args:
        net: the bare generator, whose size and dial it must fit.

    Raises:
        GCFSRError: the data set gives no s, or its images do not have the network's size.
    """
    check_batch(data, net.out_size, net.blind, net.conditions)

    def moved(value: Tensor) -> Tensor:
        return value.to(device, non_blocking=True)

    lq = engine.image(moved(data["lq"]))
    gt, base, valid = (moved(data[key]) if key in data else None for key in ("gt", "base", "valid"))
    gt = gt if gt is None else engine.image(gt if valid is None else gt * valid)
    s = None if net.blind else true_conditions(data, net.conditions, moved).to(lq.dtype)
    factor = data.get("factor")
    factor = factor.tolist() if isinstance(factor, Tensor) else factor
    parts = data.get("contributions") if len(net.conditions) > 1 else None
    if parts is not None:
        parts = columns(moved(parts), [CONDITIONS.index(name) - 1 for name in net.conditions[1:]])
    return Batch(lq, gt, s, factor, base=base, valid=valid, contributions=parts)


def true_conditions(data: dict[str, Any], conditions: Sequence[str], moved: Callable[[Tensor], Tensor]) -> Tensor:
    """(N, k) the true conditions of a batch, in the network's order, on its device."""
    if len(conditions) == 1:
        return moved(data["s"]).reshape(-1, 1)
    return columns(moved(data["conditions"]), [CONDITIONS.index(name) for name in conditions])


def columns(table: Tensor, chosen: Sequence[int]) -> Tensor:
    """(N, K) -> (N, len(chosen)), without a tensor of indices, which would be copied to the device."""
    return torch.stack([table[:, i] for i in chosen], dim=1)


def check_batch(data: dict[str, Any], size: int, blind: bool, conditions: Sequence[str] = CONDITIONS[:1]) -> None:
    """Checks that a data set, which need not be ours, gives what the network takes.

    Raises:
        GCFSRError: it gives no s or conditions, or images of another size.
    """
    for key in ("lq", "gt"):
        if key in data and data[key].shape[-2:] != (size, size):
            height, width = data[key].shape[-2:]
            raise GCFSRError(f"datasets: {key} is {width}x{height}, network_g.out_size is {size}; {OURS}")
    if len(conditions) > 1 and ("conditions" not in data or data["conditions"].shape[1:] != (len(CONDITIONS),)):
        names = ", ".join(CONDITIONS)
        raise GCFSRError(f"datasets: network_g.conditions need samples with conditions ({len(CONDITIONS)},): {names}")
    if not blind and "s" not in data:
        raise GCFSRError(f"datasets: the data set gives no s, the factor divided by network_g's max_factor; {OURS}")


class _Sums(dict[str, Tensor]):
    """Logged values summed over micro-batches by their share, apart from what is differentiated."""

    def add(self, values: Logs, share: float) -> None:
        """Adds a micro-batch's values, whose share of the batch is given."""
        for name, value in values.items():
            self[name] = self.get(name, 0.0) + value.detach() * share
