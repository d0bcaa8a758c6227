"""GCFSRModel: the training step of Eq. 6-7 inside BasicSR's trainer. The loop and the loaders stay BasicSR's."""

from inspect import signature
from typing import Any

import torch
from basicsr.archs import build_network
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gcfsr_arch.allocator import keep_freed_memory
from gcfsr_arch.checkpoint import fit, read_state
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.training import engine as eng
from gcfsr_arch.training.criteria import Criteria
from gcfsr_arch.training.resume import ResumeMixin
from gcfsr_arch.training.step import StepMixin
from gcfsr_arch.training.validation import ValidationMixin


class GCFSRModel(StepMixin, ResumeMixin, ValidationMixin, SRModel):
    """Trains GCFSR: L = L1 + 0.01 perceptual + 0.01 adversarial (Eq. 7), every term optional, and validates its EMA.

    Args:
        opt: BasicSR's options. The keys under `train` are explained in options/train_gcfsr_x64.yml.

    Raises:
        GCFSRError: an option that cannot work, weights that are missing or belong to another network.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() and opt.get("num_gpu") != 0 else "cpu")
        self.engine, told = eng.Engine.from_options((opt.get("train") or {}).get("engine")).on(device)
        self.engine.allow_tf32()
        if told:
            get_root_logger().info(told)
        if device.type == "cpu":
            keep_freed_memory()
        self.net_d: nn.Module | None = None
        self.check_metrics(opt)
        super().__init__(opt)

    # ---- building ----------------------------------------------------------------------------------------------------

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Moves a network to the device in the engine's format; under a launcher wraps it, on the CPU too."""
        net = self.engine.prepare(net.to(self.device), generator=hasattr(net, "encode"))
        if not self.opt["dist"]:
            return net
        devices = [torch.cuda.current_device()] if self.device.type == "cuda" else None
        known = signature(DistributedDataParallel).parameters  # torch is about to rename the argument
        constant = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        return DistributedDataParallel(net, device_ids=devices, **{constant: False})  # the buffers never change

    def print_network(self, net: nn.Module) -> None:
        """One line; the printed modules of a large network bury everything else."""
        bare = self.get_bare_model(net)
        get_root_logger().info(f"{type(bare).__name__}: {sum(p.numel() for p in bare.parameters()):,} parameters")

    def load_network(self, net: nn.Module, load_path: str, strict: bool = True, param_key: str = "params") -> None:
        """Loads a checkpoint of ours, of BasicSR or of the released code; a wrong one is named with its key."""
        bare = self.get_bare_model(net)
        state, _ = read_state(load_path, prefer=(param_key, "params_ema", "params"))
        if not strict:
            fitting = {k: v for k, v in bare.state_dict().items() if k in state and state[k].shape == v.shape}
            bare.load_state_dict({key: state[key] for key in fitting}, strict=False)
            count = f"{len(fitting)} of {len(bare.state_dict())}"
            get_root_logger().warning(f"{load_path}: {count} tensors fit and were taken")
            return
        fit(bare, state, load_path)

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
        self.latest = {}
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

    # ---- what a checkpoint and a resume need -------------------------------------------------------------------------

    def networks(self) -> dict[str, dict[str, nn.Module]]:
        """What a checkpoint holds: file label -> key -> network."""
        generator = {"params": self.net_g}
        if self.with_ema:
            generator["params_ema"] = self.net_g_ema
        return {"net_g": generator, **({} if self.net_d is None else {"net_d": {"params": self.net_d}})}

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
