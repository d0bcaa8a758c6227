"""GCFSRModel: the training step of Eq. 6-7 inside BasicSR's trainer. The loop and the loaders stay BasicSR's."""

import dataclasses
from collections import OrderedDict
from typing import Any

import torch
from basicsr.archs import build_network
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gcfsr_arch.checkpoint import fit, read_state, released_name
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.training import engine as eng
from gcfsr_arch.training.criteria import Criteria
from gcfsr_arch.training.losses import draw_mismatch, r1_penalty
from gcfsr_arch.training.validation import ValidationMixin

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

    def part(self, chosen: slice) -> "Batch":
        """A micro-batch."""
        noise = self.noise if isinstance(self.noise, str) else [n[chosen] for n in self.noise]
        s, matched = (None if x is None else x[chosen] for x in (self.s, self.matched))
        return Batch(self.lq[chosen], self.gt[chosen], s, self.factor[chosen], matched, noise)


class GCFSRModel(ValidationMixin, SRModel):
    """Trains GCFSR: L = L1 + 0.01 perceptual + 0.01 adversarial (Eq. 7), every term optional, and validates its EMA.

    Args:
        opt: BasicSR's options. The keys under `train` are explained in options/train_gcfsr_x64.yml.

    Raises:
        GCFSRError: an option that cannot work, weights that are missing or belong to another network.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.engine = eng.Engine.from_options((opt.get("train") or {}).get("engine"))
        self.engine.allow_tf32()
        self.net_d: nn.Module | None = None
        self.last_checkpoint: str | None = None  # named when the run stops for bad numbers
        self.check_metrics(opt)
        super().__init__(opt)

    # ---- building ----------------------------------------------------------------------------------------------------

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Moves a network to the device in the engine's format; under a launcher wraps it, on the CPU too."""
        net = self.engine.prepare(net.to(self.device), generator=hasattr(net, "encode"))
        if not self.opt["dist"]:
            return net
        devices = [torch.cuda.current_device()] if self.device.type == "cuda" else None
        return DistributedDataParallel(net, device_ids=devices, broadcast_buffers=False)  # the buffers are constants

    def print_network(self, net: nn.Module) -> None:
        """One line; the printed modules of a large network bury everything else."""
        bare = self.get_bare_model(net)
        get_root_logger().info(f"{type(bare).__name__}: {sum(p.numel() for p in bare.parameters()):,} parameters")

    def load_network(self, net: nn.Module, load_path: str, strict: bool = True, param_key: str = "params") -> None:
        """Loads a checkpoint of ours, of BasicSR or of the released code; a wrong one is named with its key."""
        bare = self.get_bare_model(net)
        if not strict:
            return super().load_network(net, load_path, strict, param_key)
        state, _ = read_state(load_path, prefer=(param_key, "params_ema", "params"))
        released = "conv_body_first.0.weight" in state or "conv_body.0.0.weight" in state
        size = self.opt["network_g"]["out_size"]
        fit(bare, state, (lambda key: released_name(key, size)) if released else None, load_path)
        return None

    def init_training_settings(self) -> None:
        """Networks, EMA, losses, optimisers: everything that training needs and testing does not."""
        train, path = self.opt["train"], self.opt["path"]
        self.criteria = Criteria(train).to(self.device)
        self.net_g.train()
        if self.criteria.gan is not None:
            if not self.opt.get("network_d"):
                raise GCFSRError("network_d: train:gan_opt needs a discriminator; add it or remove train:gan_opt")
            self.net_d = self.model_to_device(build_network(self.opt["network_d"])).train()
            self.print_network(self.net_d)
            if path.get("pretrain_network_d"):
                self.load_network(self.net_d, path["pretrain_network_d"], path.get("strict_load_d", True))
        self.with_ema = bool(train.get("ema_decay") or train.get("ema_half_life"))
        if self.with_ema:
            self.net_g_ema = build_network(self.opt["network_g"]).to(self.device).eval()
            self.net_g_ema.load_state_dict(self.get_bare_model(self.net_g).state_dict())
            if path.get("pretrain_network_g"):
                strict = path.get("strict_load_g", True)
                self.load_network(self.net_g_ema, path["pretrain_network_g"], strict, "params_ema")
        self.guard = eng.BadSteps(int(train.get("max_bad_steps", 10)))
        self.seen = 0  # pictures, over all ranks
        self.latest: Logs = {}
        self.setup_optimizers()
        if train.get("scheduler"):
            self.setup_schedulers()

    def setup_optimizers(self) -> None:
        """Adam for both. R1 rides in an ordinary step, so StyleGAN2's correction of lr and betas is not due."""
        train = self.opt["train"]
        self.step_g = self._guarded("optim_g", self.net_g, self.engine.clip_grad_g)
        self.optimizer_g = self.step_g.optimizer
        if self.net_d is not None:
            if not train.get("optim_d"):
                raise GCFSRError("train:optim_d: the discriminator has no optimiser; add it as in optim_g")
            self.step_d = self._guarded("optim_d", self.net_d, self.engine.clip_grad_d)
            self.optimizer_d = self.step_d.optimizer

    def _guarded(self, key: str, net: nn.Module, clip: float | None) -> eng.GuardedStep:
        arguments = dict(self.opt["train"][key])
        params = [p for p in net.parameters() if p.requires_grad]
        optimizer = self.engine.optimizer(arguments.pop("type"), params, **arguments)
        self.optimizers.append(optimizer)
        return eng.GuardedStep(optimizer, self.device, self.engine.amp == "fp16", clip)

    # ---- the step ----------------------------------------------------------------------------------------------------

    def feed_data(self, data: dict[str, Any]) -> None:
        """Takes a batch of a data set: lq, gt, s, factor."""
        self.lq = self.engine.picture(data["lq"].to(self.device, non_blocking=True))
        if "gt" in data:
            self.gt = self.engine.picture(data["gt"].to(self.device, non_blocking=True))
        blind = self.get_bare_model(self.net_g).blind
        self.s = None if blind else data["s"].to(self.lq).flatten()
        self.factor = torch.as_tensor(data.get("factor", 1.0)).expand(len(self.lq)).to(self.device)

    def draw_noise(self, batch: int) -> Any:
        """The generator's noise for a batch of that size."""
        return self.opt["train"].get("noise", "random")

    def _draw_batch(self) -> Batch:
        mismatch, s, matched = self.opt["train"].get("mismatch"), self.s, None
        if mismatch and s is not None:
            net = self.get_bare_model(self.net_g)
            s, matched = draw_mismatch(s, mismatch["prob"], mismatch["octaves"], net.min_factor / net.max_factor)
        return Batch(self.lq, self.gt, s, self.factor, matched, self.draw_noise(len(self.lq)))

    def optimize_parameters(self, current_iter: int) -> None:
        """One iteration: G's step (Eq. 7 with D fixed), then D's on the same restored faces, then the EMA."""
        train, batch = self.opt["train"], self._draw_batch()
        update_g = current_iter > train.get("net_d_init_iters", 0) and current_iter % train.get("net_d_iters", 1) == 0
        fakes, bad = self._generator_step(batch) if update_g or self.net_d is None else (self._restore(batch), None)
        if self.net_d is not None and bad is None:
            bad = self._discriminator_step(batch, fakes, current_iter)
        if bad is None:
            self.guard.good()
        elif bad != SCALE_SEARCH:
            get_root_logger().warning(self.guard.bad(current_iter, bad, self.last_checkpoint))
        self.seen += len(self.lq) * self.opt.get("world_size", 1)
        if self.with_ema and update_g and bad is None:
            decay = eng.ema_decay(train, len(self.lq) * self.opt.get("world_size", 1), self.seen)
            eng.update_ema(self.net_g_ema, self.get_bare_model(self.net_g), decay)

    @torch.no_grad()
    def _restore(self, batch: Batch) -> list[Tensor]:
        """The micro-batches' restored faces, without a graph."""
        parts = [batch.part(chosen) for chosen, _, _ in eng.micro_batches(len(batch.lq), self.engine.accumulate)]
        with self.engine.autocast(self.device):
            return [self.net_g(part.lq, part.s, noise=part.noise).to(part.gt) for part in parts]

    def _generator_step(self, batch: Batch) -> tuple[list[Tensor], str | None]:
        logs, fakes, judge = _Sums(), [], self.get_bare_model(self.net_d) if self.net_d is not None else None
        judge_params = [p for p in judge.parameters() if p.requires_grad] if judge is not None else []
        with eng.frozen(judge_params):  # D only judges: no gradients for it, no synchronisation
            for chosen, share, last in eng.micro_batches(len(batch.lq), self.engine.accumulate):
                part = batch.part(chosen)
                with eng.sync_only(last, self.net_g):
                    with self.engine.autocast(self.device):
                        output = self.net_g(part.lq, part.s, noise=part.noise)
                    output = output.to(part.gt)  # losses are computed in full precision
                    losses = self.criteria.generator(output, part, judge, self.engine)
                    self.step_g.backward(torch.stack(list(losses.values())).sum() * share)
                fakes.append(output.detach())
                logs.add(losses, share)
        return fakes, self._finish("generator", self.step_g, logs)

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
        """D's losses on real and restored faces: one forward and one backward pass (DDP allows no second forward)."""
        with self.engine.autocast(self.device):
            logits = self.net_d(torch.cat([real, fake]))
        heads = [logits] if isinstance(logits, Tensor) else logits
        on_real, on_fake = zip(*(head.float().split([len(real), len(fake)]) for head in heads), strict=True)
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

    def save(self, epoch: int, current_iter: int) -> None:
        """Writes net_g (with its EMA), net_d and the training state."""
        nets, keys = [self.net_g], ["params"]
        if self.with_ema:
            nets, keys = [*nets, self.net_g_ema], [*keys, "params_ema"]
        self.save_network(nets, "net_g", current_iter, param_key=keys)
        if self.net_d is not None:
            self.save_network(self.net_d, "net_d", current_iter)
        self.save_training_state(epoch, current_iter)

    # ---- what a resume needs beside networks and optimisers ----------------------------------------------------------

    def engine_state(self) -> dict[str, Any]:
        """Plain data: gradient scales, counters, and losses that are logged between their steps."""
        steps = [self.step_g] + ([self.step_d] if self.net_d is not None else [])
        return {
            "scalers": [step.scaler.state_dict() for step in steps],
            "bad_in_a_row": self.guard.in_a_row,
            "bad_total": self.guard.total,
            "seen": self.seen,
            "latest": {name: value.item() for name, value in self.latest.items()},
        }

    def load_engine_state(self, state: dict[str, Any]) -> None:
        """Takes back what `engine_state` gave."""
        steps = [self.step_g] + ([self.step_d] if self.net_d is not None else [])
        for step, scaler in zip(steps, state["scalers"], strict=True):
            if scaler:
                step.scaler.load_state_dict(scaler)
        self.guard.in_a_row, self.guard.total, self.seen = state["bad_in_a_row"], state["bad_total"], state["seen"]
        self.latest = {name: torch.tensor(value, device=self.device) for name, value in state["latest"].items()}


class _Sums(dict[str, Tensor]):
    """Logged values summed over micro-batches by their share, apart from what is differentiated."""

    def add(self, values: Logs, share: float) -> None:
        for name, value in values.items():
            self[name] = self.get(name, 0.0) + value.detach() * share
