"""Saving and resuming, so that a killed run continues bit for bit as if it had never stopped.

Everything that the next iteration depends on is in the state: optimisers, schedulers, every rank's random generators,
the place in the epoch, best metrics, counters. A checkpoint of an iteration that is validated is written after the
validation, so that it holds its results too.
"""

import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import nn

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.training import checkpoints, curves
from gcfsr_arch.training.loaders import Schedule
from gcfsr_arch.training.randomness import random_state, set_random_state
from gcfsr_arch.training.ranks import from_first_rank, gathered
from gcfsr_arch.training.stopping import StopRequest

OURS = "gcfsr"  # key of the state that BasicSR does not know


class ResumeMixin:
    """Saving, resuming and stopping for a BasicSR model; stands before it among the bases.

    The model gives `networks()`: file label -> parameter key -> network, and may give `engine_state()` and
    `load_engine_state(state)` for plain data of its own.
    """

    opt: dict[str, Any]
    optimizers: list[torch.optim.Optimizer]
    schedulers: list[Any]
    schedule: Schedule | None = None  # set by the run (`hooks.run`); without it a checkpoint holds no place in the data
    last_checkpoint: str | None = None  # the newest whole one, named where a run stops
    _stop: "StopRequest | None" = None
    _random: dict[str, Any] | None = None  # to be put back when the first iteration begins
    _waiting: tuple[int, int] | None = None  # (epoch, iteration) to be saved after its validation
    _validated = 0  # validation sets done in this iteration
    _saved = -1  # iteration of the newest checkpoint

    # ---- the trainer's loop --------------------------------------------------------------------------------------

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Begins an iteration: here the one before is complete, so a resume takes over and a request to stop is met.

        Raises:
            SystemExit: after SIGINT or SIGTERM, with status 128 + the signal's number, once the checkpoint is written.
        """
        if self._random is not None:
            set_random_state(self._random)
            self._random = None
        if self._stop is None:
            self._stop = StopRequest()
        if (number := self._stop.agreed(self.opt)) is not None:
            self._save_and_exit(current_iter - 1, number)
        super().update_learning_rate(current_iter, warmup_iter=warmup_iter)

    def _save_and_exit(self, iteration: int, number: int) -> None:
        if iteration > self._saved and iteration > 0:
            self._write(self._position(iteration)[0], iteration)
        if self.opt.get("rank", 0) == 0:
            print(
                f"gcfsr: stopped by {signal.Signals(number).name} after iteration {iteration}; saved to "
                f"{self.last_checkpoint}; go on with the same command and --auto_resume",
                file=sys.stderr,
                flush=True,
            )
        sys.exit(128 + number)

    def validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool = False) -> None:
        """Validates, records the metrics, and writes the checkpoint that waits for them."""
        if self.opt["is_train"]:
            total = int(self.opt["train"]["total_iter"])
            current_iter = min(int(current_iter), total)  # BasicSR's loop counts past its end
        try:
            super().validation(dataloader, current_iter, tb_logger, save_img)
        except BaseException:  # whatever ends the run here, the iteration's work is kept
            if self._waiting is not None and not self.opt["dist"]:
                self._write(*self._waiting)
            raise
        results = getattr(self, "metric_results", None)
        if results and self.opt["is_train"] and self.opt.get("rank", 0) == 0:
            row = {"iter": current_iter, "dataset": dataloader.dataset.opt["name"], "metrics": dict(results)}
            curves.append(self.opt["path"]["experiments_root"], row)
        self._validated += 1
        if self._waiting is not None and self._validated == self._validation_sets():
            self._write(*self._waiting)

    def save(self, epoch: int, current_iter: int) -> None:
        """Writes the checkpoint of an iteration; where it is validated next, after that.

        Args:
            epoch: BasicSR's epoch, -1 at the end.
            current_iter: the iteration, or -1 for `net_*_latest.pth` alone.
        """
        every = (self.opt.get("val") or {}).get("val_freq")
        if current_iter > 0 and every and current_iter % every == 0 and self._validation_sets():
            self._waiting, self._validated = (epoch, current_iter), 0
        else:
            self._write(epoch, current_iter)

    def _validation_sets(self) -> int:
        return sum(str(phase).startswith("val") for phase in self.opt["datasets"])

    # ---- writing -------------------------------------------------------------------------------------------------

    def _write(self, epoch: int, iteration: int) -> None:
        """Writes a checkpoint on rank 0; every rank must call it, and raises what rank 0 raises."""
        self._waiting = None
        own = {"random": random_state(), "engine": self.engine_state() if hasattr(self, "engine_state") else None}
        ranks = gathered(own)
        fault: str | None = None
        cause: GCFSRError | None = None
        if self.opt.get("rank", 0) == 0:
            try:
                self._write_files(epoch, iteration, ranks)
            except GCFSRError as error:
                fault, cause = f"{error}; {self.last_sound()}", error
        if (fault := from_first_rank(fault)) is not None:
            raise GCFSRError(fault) from cause
        self._saved = max(self._saved, iteration)

    def _write_files(self, epoch: int, iteration: int, ranks: list[dict[str, Any]]) -> None:
        models, states = Path(self.opt["path"]["models"]), Path(self.opt["path"]["training_states"])
        manifest = {}
        for label, networks in self.networks().items():
            path = models / f"{label}_{'latest' if iteration == -1 else iteration}.pth"
            bare = {key: self.get_bare_model(net) for key, net in networks.items()}
            content: dict[str, Any] = {key: weights(net) for key, net in bare.items()}
            for net in bare.values():  # a generator's arguments: `load_generator` need not infer them
                if hasattr(net, "config"):
                    content["config"] = json.dumps(net.config.to_dict())
            checkpoints.save_atomic(content, path)
            manifest[path.name] = checkpoints.fingerprint(path)
        if iteration == -1:
            return
        state = self._state(epoch, iteration, ranks) | {checkpoints.MANIFEST: manifest}
        checkpoints.save_atomic(state, states / f"{iteration}.state")
        self.last_checkpoint = str(states / f"{iteration}.state")
        keep = (self.opt.get("logger") or {}).get("keep_last")
        if keep:
            checkpoints.prune(states, int(keep))

    def _state(self, epoch: int, iteration: int, ranks: list[dict[str, Any]]) -> dict[str, Any]:
        """BasicSR's state and, under one key, what it forgets."""
        ours = {
            "ranks": ranks,
            "samples": self._position(iteration)[1],
            "best": plain(getattr(self, "best_metric_results", {})),
        }
        return {
            "epoch": epoch,
            "iter": iteration,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [plain(scheduler.state_dict()) for scheduler in self.schedulers],
            OURS: ours,
        }

    def _position(self, iteration: int) -> tuple[int, int]:
        """(epoch, samples used up in it) after an iteration; a model outside BasicSR's trainer has neither."""
        return self.schedule.after(iteration)[1:] if self.schedule else (0, 0)

    def last_sound(self) -> str:
        """The words for a message that stops a run."""
        if self.last_checkpoint is None:
            return "no checkpoint has been saved yet"
        return f"the last sound checkpoint is {self.last_checkpoint}"

    # ---- reading -------------------------------------------------------------------------------------------------

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Takes over a state; the random generators follow when the first iteration begins.

        Raises:
            GCFSRError: the state belongs to another option file.
        """
        try:
            super().resume_training(resume_state)
        except (AssertionError, ValueError, KeyError) as error:
            raise GCFSRError(
                f"path.resume_state: iteration {resume_state['iter']} was saved by another option file: {error}"
            ) from error
        self._saved = resume_state["iter"]
        self.last_checkpoint = self.opt["path"].get("resume_state")
        ours = resume_state.get(OURS)
        if ours is None:
            get_root_logger().warning("The state is BasicSR's own: the run goes on, but not bit by bit as it was.")
            return
        if ours["best"]:
            self.best_metric_results = ours["best"]
        ranks = ours["ranks"]
        if len(ranks) != self.opt.get("world_size", 1):
            message = f"The state is of {len(ranks)} process(es): the run goes on, but not bit by bit as it was."
            get_root_logger().warning(message)
        mine = ranks[min(self.opt.get("rank", 0), len(ranks) - 1)]
        if mine["engine"] is not None:
            self.load_engine_state(mine["engine"])
        if self.opt.get("rank", 0) < len(ranks):
            self._random = mine["random"]


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
