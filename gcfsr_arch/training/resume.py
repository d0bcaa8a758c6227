"""Saves and resumes, so that a killed run continues bit for bit as if it had never stopped.

Everything that the next iteration depends on is in the state: optimisers, every rank's random generators,
the place in the epoch, best metrics, counters. A checkpoint of an iteration that is validated is written after the
validation, so that it holds its results too.
"""

import dataclasses
import json
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import nn

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.training import checkpoints
from gcfsr_arch.training.engine import bare
from gcfsr_arch.training.loaders import Schedule
from gcfsr_arch.training.randomness import random_state, set_random_state
from gcfsr_arch.training.ranks import from_first_rank, gathered
from gcfsr_arch.training.stopping import StopRequest

OURS = "gcfsr"  # key of the state that BasicSR does not know
COUNTERS = ("step", "k", "weight_sum", "lr_max")  # of a parameter group, where an optimiser counts there


@dataclasses.dataclass
class Content:
    """What a checkpoint holds of a model.

    Args:
        networks: file label -> parameter key -> network.
        optimizers: in the order in which a resume finds them again.
        engine: plain data of this rank: counters, gradient scales.
        best: BasicSR's best metrics.
    """

    networks: dict[str, dict[str, nn.Module]]
    optimizers: list[torch.optim.Optimizer]
    engine: dict[str, Any]
    best: dict[str, Any]


class Saver:
    """When the checkpoints of a run are written and which was the last, and how a run stops.

    Args:
        opt: BasicSR's options.
        content: gives what a checkpoint holds at the moment.
    """

    def __init__(self, opt: dict[str, Any], content: Callable[[], Content]) -> None:
        self.opt, self.content = opt, content
        self.schedule: Schedule | None = None  # set by the run; without it a checkpoint holds no place in the data
        self.last_checkpoint: str | None = None  # the newest whole one, named where a run stops
        self._stop: StopRequest | None = None
        self._random: dict[str, Any] | None = None  # to be put back when the first iteration begins
        self._waiting: tuple[int, int] | None = None  # (epoch, iteration) to be saved after its validation
        self._validated = 0  # validation sets done in this iteration
        self._saved = -1  # iteration of the newest checkpoint

    # ---- the trainer's loop --------------------------------------------------------------------------------------

    def begin_iteration(self, iteration: int) -> None:
        """The iteration before is complete: a resume restores the random state, and a request to stop is obeyed.

        Raises:
            SystemExit: after SIGINT or SIGTERM, with status 128 + the signal's number, once the checkpoint is written.
        """
        if self._random is not None:
            set_random_state(self._random)
            self._random = None
        if self._stop is None:
            self._stop = StopRequest()
        if (number := self._stop.agreed(self.opt)) is not None:
            self._save_and_exit(iteration - 1, number)

    def _save_and_exit(self, iteration: int, number: int) -> None:
        if iteration > self._saved and iteration > 0:
            self._write(self._position(iteration)[0], iteration)
        if self.opt.get("rank", 0) == 0:
            print(
                f"gcfsr: stopped by {signal.Signals(number).name} after iteration {iteration}; saved to "
                f"{self.last_checkpoint}; resume with the same command and --auto_resume",
                file=sys.stderr,
                flush=True,
            )
        sys.exit(128 + number)

    def save(self, epoch: int, iteration: int) -> None:
        """Writes the checkpoint of an iteration; where it is validated next, after that.

        Args:
            epoch: BasicSR's epoch, -1 at the end.
            iteration: the iteration, or -1 for `net_*_latest.pth` alone.
        """
        every = (self.opt.get("val") or {}).get("val_freq")
        if iteration > 0 and every and iteration % every == 0 and self._validation_sets():
            self._waiting, self._validated = (epoch, iteration), 0
        else:
            self._write(epoch, iteration)

    def validated(self) -> None:
        """A validation set is done; after the last one the checkpoint that waits for it is written."""
        self._validated += 1
        if self._waiting is not None and self._validated == self._validation_sets():
            self._write(*self._waiting)

    def interrupted(self) -> None:
        """Keeps the iteration's work if the run ends during validation."""
        if self._waiting is not None and not self.opt["dist"]:
            self._write(*self._waiting)

    def _validation_sets(self) -> int:
        return sum(str(phase).startswith("val") for phase in self.opt["datasets"])

    # ---- writing -------------------------------------------------------------------------------------------------

    def _write(self, epoch: int, iteration: int) -> None:
        """Writes a checkpoint on rank 0; every rank must call it, and raises what rank 0 raises."""
        self._waiting = None
        content = self.content()
        ranks = gathered({"random": random_state(), "engine": content.engine})
        fault: str | None = None
        cause: GCFSRError | None = None
        if self.opt.get("rank", 0) == 0:
            try:
                self._write_files(epoch, iteration, content, ranks)
            except GCFSRError as error:
                fault, cause = f"{error}; {self.last_valid()}", error
        if (fault := from_first_rank(fault)) is not None:
            raise GCFSRError(fault) from cause
        self._saved = max(self._saved, iteration)

    def _write_files(self, epoch: int, iteration: int, content: Content, ranks: list[dict[str, Any]]) -> None:
        models, states = Path(self.opt["path"]["models"]), Path(self.opt["path"]["training_states"])
        manifest = {}
        for label, networks in content.networks.items():
            path = models / f"{label}_{'latest' if iteration == -1 else iteration}.pth"
            checkpoints.save_atomic(network_file(networks), path)
            manifest[path.name] = checkpoints.fingerprint(path)
        if iteration == -1:
            return
        kinds = [type(optimizer).__name__ for optimizer in content.optimizers]
        samples = self._position(iteration)[1]
        ours = {"ranks": ranks, "samples": samples, "best": plain(content.best), "optimizers": kinds}
        state = {
            "epoch": epoch,
            "iter": iteration,
            "optimizers": [optimizer.state_dict() for optimizer in content.optimizers],
            "schedulers": [],  # BasicSR's key; the learning rate is a function of the iteration
            OURS: ours,
            checkpoints.MANIFEST: manifest,
        }
        checkpoints.save_atomic(state, states / f"{iteration}.state")
        self.last_checkpoint = str(states / f"{iteration}.state")
        keep = (self.opt.get("logger") or {}).get("keep_last")
        if keep:
            checkpoints.prune(states, int(keep))

    def _position(self, iteration: int) -> tuple[int, int]:
        """(epoch, samples used up in it) after an iteration; a model outside BasicSR's trainer has neither."""
        return self.schedule.after(iteration)[1:] if self.schedule else (0, 0)

    def last_valid(self) -> str:
        """The message of a run that stops."""
        if self.last_checkpoint is None:
            return "no checkpoint has been saved yet"
        return f"the last valid checkpoint is {self.last_checkpoint}"

    # ---- reading -------------------------------------------------------------------------------------------------

    def resume(self, state: dict[str, Any], optimizers: list[torch.optim.Optimizer]) -> tuple[Any, Any]:
        """Restores a state; the random generators follow when the first iteration begins.

        Learning rates and the other arguments of the optimisers stay those of the option file.

        Returns:
            `Content.engine` and `Content.best` of this rank; None where the state has none.

        Raises:
            GCFSRError: the state belongs to another option file.
        """
        kinds = (state.get(OURS) or {}).get("optimizers") or [type(optimizer).__name__ for optimizer in optimizers]
        try:
            for optimizer, saved, kind in zip(optimizers, state["optimizers"], kinds, strict=True):
                if kind == type(optimizer).__name__:
                    load_optimizer(optimizer, saved)
                else:
                    get_root_logger().warning(f"The state is of {kind}: {type(optimizer).__name__} begins without it.")
        except (ValueError, KeyError) as error:
            raise GCFSRError(
                f"path.resume_state: iteration {state['iter']} was saved by another option file: {error}"
            ) from error
        self._saved = state["iter"]
        self.last_checkpoint = self.opt["path"].get("resume_state")
        ours = state.get(OURS)
        if ours is None:
            get_root_logger().warning("The state is BasicSR's own: the run continues, but not bit for bit.")
            return None, None
        ranks, rank = ours["ranks"], self.opt.get("rank", 0)
        if len(ranks) != self.opt.get("world_size", 1):
            message = f"The state is of {len(ranks)} process(es): the run continues, but not bit for bit."
            get_root_logger().warning(message)
        mine = ranks[min(rank, len(ranks) - 1)]
        if rank < len(ranks):
            self._random = mine["random"]
        return mine["engine"], ours["best"] or None


def network_file(networks: dict[str, nn.Module]) -> dict[str, Any]:
    """What a network's file holds: parameter key -> state, and a generator's arguments for `load_generator`."""
    nets = {key: bare(net) for key, net in networks.items()}
    configs = [json.dumps(net.config.to_dict()) for net in nets.values() if hasattr(net, "config")]
    return {key: weights(net) for key, net in nets.items()} | ({"config": configs[-1]} if configs else {})


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Loads an optimiser's moments and step counts; its arguments are not changed.

    Raises:
        ValueError: the state is of other parameters.
    """
    groups = zip(optimizer.param_groups, saved["param_groups"], strict=True)  # torch reads `fused` of the saved ones
    taken = ("params", *COUNTERS)
    saved = {**saved, "param_groups": [mine | {k: theirs[k] for k in taken if k in theirs} for mine, theirs in groups]}
    optimizer.load_state_dict(saved)


def weights(net: nn.Module) -> dict[str, torch.Tensor]:
    """A network's state on the CPU, as BasicSR writes it."""
    return {key: value.detach().cpu() for key, value in net.state_dict().items()}


def plain(value: Any) -> Any:
    """The same with dicts, lists and Python numbers alone, which `weights_only=True` reads on every torch."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value.item() if hasattr(value, "item") and not isinstance(value, torch.Tensor) else value
