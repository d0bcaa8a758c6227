"""The engine of a training step: precision, compilation, micro-batches, guarded steps, EMA. No loss, no BasicSR."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gcfsr_arch.devices import has_bf16
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.training.options.optimizers import PACKAGES, Optimizer
from gcfsr_arch.training.options.schema import EngineOptions, Train

AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
FUSED = ("Adam", "AdamW", "SGD")  # torch's that a flag on the device can make skip a step, on every device


class Engine(EngineOptions):
    """The options under `train: engine` with their meaning; every default is the plain full-precision step."""

    def on(self, device: torch.device) -> "tuple[Engine, str]":
        """This engine on a device, "auto" resolved; and what the user should know of its precision, or ""."""
        if self.amp == "auto" and has_bf16(device):
            return self.model_copy(update={"amp": "bf16"}), "train.engine.amp: auto is bf16 on this device"
        if self.amp == "auto":
            return self.model_copy(update={"amp": None}), "train.engine.amp: auto is float32: this device has no bf16"
        if self.amp == "bf16" and not has_bf16(device):
            return self, "train.engine.amp: this device emulates bf16, slower than float32; auto leaves it out here"
        return self, ""

    def autocast(self, device: torch.device) -> torch.autocast | nullcontext[None]:
        """The precision that networks run in."""
        if self.amp is None:
            return nullcontext()
        return torch.autocast(device.type, dtype=AMP_TYPES[self.amp])

    def image(self, x: Tensor) -> Tensor:
        """A batch of images in the engine's memory format."""
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x

    def prepare(self, net: nn.Module, generator: bool) -> nn.Module:
        """Applies memory format, checkpointing and compilation to a bare network, in place."""
        if self.channels_last:
            net.to(memory_format=torch.channels_last)
        if generator and self.checkpointing:
            if not hasattr(net, "checkpoint_levels"):
                name = type(net).__name__
                raise GCFSRError(f"train.engine.checkpointing: {name} cannot recompute its levels; remove the key")
            net.checkpoint_levels = True
        if self.compile:
            net.compile()
        return net

    def set_tf32(self) -> None:
        """Sets whether CUDA's matrix products and convolutions may use TF32, for the process; `tf32: ~` leaves it."""
        if self.tf32 is not None:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32


def build_optimizer(options: Optimizer, params: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of a section over `params`; the fused form where there is one that skips steps by itself."""
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in options.model_dump(exclude={"type"}).items()}
    if options.type in FUSED:
        arguments["fused"] = True
    module, package = PACKAGES.get(options.type, ("torch.optim", "torch"))
    try:
        kind = getattr(import_module(module), options.type)
    except (ImportError, AttributeError) as error:
        raise GCFSRError(f"{options.type} needs the package {package}: pip install 'gcfsr[optimizers]'") from error
    groups = muon_groups(params, options) if options.type == "Muon" else params
    optimizer = kind(groups, **arguments)
    if hasattr(optimizer, "train"):  # schedulefree's: the parameters are those at which gradients are taken
        optimizer.train()
    return optimizer


def muon_groups(params: list[nn.Parameter], options: Optimizer) -> list[dict[str, Any]]:
    """Muon's groups: weights between features take it; vectors, and layers from or to images or scores, take AdamW."""
    hidden = [p for p in params if p.ndim > 1 and min(p.shape[:2]) > 3]
    rest = [p for p in params if p.ndim < 2 or min(p.shape[:2]) <= 3]
    groups = [{"params": hidden, "use_muon": True}, {"params": rest, "use_muon": False}]
    shared = {"lr": options.lr, "weight_decay": options.weight_decay}
    return [group | shared for group in groups if group["params"]]


@contextmanager
def full_float32() -> Iterator[None]:
    """No TF32 inside the block, regardless of the engine and of torch's default."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


class GuardedStep:
    """Accumulates scaled gradients, then steps the optimiser only where every number is finite on every rank.

    As in torch's GradScaler: the kernels of a fused optimiser read the decision on the device, and the host does not
    wait for it. Any other optimiser can only be left out by the host, which waits for the device once a step.

    Args:
        optimizer: whose parameters are stepped.
        device: where they live.
        fp16: whether gradients are scaled against underflow.
        clip: largest gradient norm, or None.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device, fp16: bool, clip: float | None) -> None:
        self.optimizer = optimizer
        self.params = [p for group in optimizer.param_groups for p in group["params"]]
        self.scaler = torch.amp.GradScaler(device.type, enabled=fp16)  # one for each optimiser: D's overflow is not G's
        self.clip = math.inf if clip is None else clip

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of `loss`."""
        self.scaler.scale(loss).backward()

    def step(self, loss: Tensor, before: Tensor) -> Tensor:
        """Steps and clears the gradients; where a number is not finite parameters and averages stay as they are.

        Args:
            loss: the sum that was differentiated, to be checked too.
            before: () 1.0, or 0.0 where an earlier step of the iteration was not finite: this one is skipped as well.

        Returns:
            () 1.0 where the step was taken, otherwise 0.0.
        """
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.params, self.clip)
        finite = on_every_rank((torch.isfinite(norm) & torch.isfinite(loss.detach())).float()) * before
        if getattr(self.optimizer, "_step_supports_amp_scaling", False):  # torch's mark of one that reads found_inf
            self.optimizer.found_inf = 1 - finite
            self.optimizer.step()
            del self.optimizer.found_inf
        elif finite.item():
            self.optimizer.step()
        if self.scaler.is_enabled():
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return finite

    def scale(self) -> Tensor | None:
        """The factor of fp16 gradients, on the device; None where they are not scaled."""
        return self.scaler.scale(torch.ones((), device=self.params[0].device)) if self.scaler.is_enabled() else None


class Later:
    """A device's few numbers on their way to the host: `read` an iteration later does not wait for the device.

    Args:
        values: (K,) on the device.
    """

    def __init__(self, values: Tensor) -> None:
        on_cuda = values.device.type == "cuda"
        self.host = torch.empty(values.shape, dtype=values.dtype, pin_memory=on_cuda)
        self.host.copy_(values, non_blocking=True)
        self.arrived = torch.cuda.Event() if on_cuda else None
        if self.arrived is not None:
            self.arrived.record()

    def read(self) -> list[float]:
        """The numbers, once they have arrived."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.host.tolist()


def on_every_rank(flag: Tensor) -> Tensor:
    """The minimum of the ranks' flags, on the device."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MIN)
    return flag


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean of a tensor over the ranks, on every rank."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
        values = values / torch.distributed.get_world_size()
    return values


class BadSteps:
    """Counts steps that were skipped because a number was not finite and stops the run after `limit` in a row."""

    def __init__(self, limit: int) -> None:
        self.limit, self.in_a_row, self.total = limit, 0, 0

    def good(self) -> None:
        """Ends the row of skipped steps."""
        self.in_a_row = 0

    def bad(self, iteration: int, what: str, last_checkpoint: str | None) -> str:
        """Counts one and returns the line to log.

        Raises:
            GCFSRError: the limit is reached; the message names the last valid checkpoint.
        """
        self.in_a_row += 1
        self.total += 1
        if self.in_a_row >= self.limit:
            saved = f"the last valid checkpoint is {last_checkpoint}" if last_checkpoint else "none was saved yet"
            raise GCFSRError(
                f"train.max_bad_steps: {self.in_a_row} steps in a row up to iteration {iteration} were not finite "
                f"({what}); {saved}; lower the learning rate or leave out train.engine.amp, then resume"
            )
        row = f"{self.in_a_row} in a row, {self.limit} stop the run"
        return f"iteration {iteration}: {what} not finite, step skipped ({row})"


def micro_batches(size: int, accumulate: int) -> Iterator[tuple[slice, float, bool]]:
    """Cuts a batch: (slice, share of the batch, whether it is the last) for each micro-batch."""
    step = math.ceil(size / accumulate)
    for start in range(0, size, step):
        stop = min(start + step, size)
        yield slice(start, stop), (stop - start) / size, stop == size


def bare(net: nn.Module) -> nn.Module:
    """The network itself, without DistributedDataParallel's wrapper."""
    return net.module if isinstance(net, DistributedDataParallel) else net


def sync_only(last: bool, net: nn.Module) -> Any:
    """A context in which ranks exchange gradients only for the last micro-batch."""
    return nullcontext() if last or not isinstance(net, DistributedDataParallel) else net.no_sync()


@contextmanager
def frozen(params: list[nn.Parameter]) -> Iterator[None]:
    """No gradients for `params` inside."""
    for p in params:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in params:
            p.requires_grad_(True)


def ema_decay(options: Train, global_batch: int, seen: int) -> float:
    """The decay of the moving average for the next step.

    Args:
        options: `ema_decay`, or `ema_half_life` in images (StyleGAN2's 0.5^(32/10000) is a half-life of 10000 with a
            batch of 32); `ema_rampup` shortens the half-life early to that share of the images seen.
        global_batch: images per step over all ranks.
        seen: images seen so far.
    """
    if options.ema_half_life is None:
        return options.ema_decay
    half_life = options.ema_half_life
    if options.ema_rampup is not None:
        half_life = min(half_life, seen * options.ema_rampup)
    return 0.5 ** (global_batch / max(half_life, 1e-8))


@torch.no_grad()
def update_ema(average: nn.Module, net: nn.Module, decay: float, taken: Tensor) -> None:
    """average = decay * average + (1 - decay) * net for parameters; buffers are copied.

    Args:
        average, net: two networks of the same form.
        decay: in [0, 1].
        taken: () 1.0, or 0.0 to leave the average as it is.
    """
    share = (1 - decay) * taken
    for mine, theirs in zip(average.parameters(), net.parameters(), strict=True):
        mine.lerp_(theirs, share.to(mine))
    for mine, theirs in zip(average.buffers(), net.buffers(), strict=True):
        mine.copy_(torch.where(taken > 0, theirs, mine))


@torch.no_grad()
def schedule_free_average(average: nn.Module, net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """average = x of a schedule-free optimiser, whose parameters are y = (1 - beta) z + beta x; buffers are copied."""
    (group,) = optimizer.param_groups
    beta = group["betas"][0] if "betas" in group else group["momentum"]
    for x, y in zip(average.parameters(), net.parameters(), strict=True):
        z = optimizer.state[y].get("z", y)  # before its first step they are the same
        x.copy_(torch.lerp(y, z, 1 - 1 / beta))
    for mine, theirs in zip(average.buffers(), net.buffers(), strict=True):
        mine.copy_(theirs)
