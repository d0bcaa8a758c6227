"""What replaces functions of BasicSR's train.py in a run of ours: finding a checkpoint, loaders, the model, logs."""

import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from basicsr.models import build_model
from basicsr.utils import get_time_str, init_wandb_logger
from basicsr.utils.options import copy_opt_file

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.training import checkpoints, curves
from gcfsr_arch.training.console import TrainLine
from gcfsr_arch.training.loaders import BEGINNING, Position, Schedule, create_train_val_dataloader
from gcfsr_arch.training.resume import OURS

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

Options = dict[str, Any]
_claims: list[IO[str]] = []


class TrainRun:
    """One training run: functions that `train_pipeline` calls in this order, and the place in the data they share."""

    def __init__(self) -> None:
        self.start = BEGINNING  # where the run starts or resumes
        self.schedule: Schedule | None = None

    def functions(self) -> dict[str, Callable[..., Any]]:
        """Name in BasicSR's train.py -> what replaces it."""
        return {
            "load_resume_state": self.load_resume_state,
            "copy_opt_file": copy_option_file,
            "init_tb_loggers": self.init_tb_loggers,
            "create_train_val_dataloader": self.create_train_val_dataloader,
            "build_model": self.build_model,
            "MessageLogger": RecordingLine,
        }

    def load_resume_state(self, opt: Options) -> Options | None:
        """The state that the run resumes from, on the CPU; None for a new run.

        With `--auto_resume` the newest valid checkpoint of the run's own folder, else `path: resume_state`. Points the
        networks' paths at the checkpoint's.

        Raises:
            GCFSRError: a state was requested and does not exist, or all states are damaged.
        """
        paths = opt["path"]
        if opt["rank"] == 0:
            claim(Path(paths["experiments_root"]))
            wait_for_archive_name(paths["experiments_root"])
        opt["root_path"] = str(Path(paths["experiments_root"]).parent)  # train_pipeline makes TensorBoard's folder here
        found, state = newest_checkpoint(opt) if opt["auto_resume"] else (None, {})
        if found is None and paths.get("resume_state"):
            found = Path(paths["resume_state"])
            state = checkpoints.valid_state(found)
        if found is None:
            return None
        paths["resume_state"] = str(found)
        for key in ("experiments_root", "models", "training_states", "visualization"):
            os.makedirs(paths[key], exist_ok=True)  # the state may be another run's
        point_at_networks(opt, found, state)
        samples = (state.get(OURS) or {}).get("samples", 0)
        self.start = Position(state["iter"], state["epoch"], samples)
        if opt["rank"] == 0:
            checkpoints.remove_partial(paths["models"], paths["training_states"])
            curves.forget_after(paths["experiments_root"], state["iter"])
        return state

    def init_tb_loggers(self, opt: Options) -> Any:
        """TensorBoard's writer on rank 0, or None; a resumed run drops the points after its checkpoint."""
        if ((opt["logger"].get("wandb") or {}).get("project")) and "debug" not in opt["name"]:
            init_wandb_logger(opt)
        if not opt["logger"].get("use_tb_logger") or "debug" in opt["name"] or opt["rank"] != 0:
            return None
        from torch.utils.tensorboard import SummaryWriter

        after = self.start.iteration + 1 if self.start.iteration else None
        return SummaryWriter(str(Path(opt["root_path"]) / "tb_logger" / opt["name"]), purge_step=after)

    def create_train_val_dataloader(self, opt: Options, logger: logging.Logger) -> tuple[Any, Any, list[Any], int, int]:
        """Training loader and sampler, validation loaders, last epoch, iterations."""
        *made, self.schedule = create_train_val_dataloader(opt, logger, self.start)
        return tuple(made)

    def build_model(self, opt: Options) -> Any:
        """BasicSR's `build_model`; sets the model's schedule, from which its checkpoints take the place in the data."""
        model = build_model(opt)
        model.saver.schedule = self.schedule
        return model


def copy_option_file(file: str, run: str) -> None:
    """BasicSR's `copy_opt_file`, also where the option file is the run's own copy, which would be emptied."""
    copy = Path(run) / Path(file).name
    if not (copy.exists() and copy.samefile(file)):
        copy_opt_file(file, run)


def wait_for_archive_name(folder: str) -> None:
    """Waits while the name under which BasicSR archives a folder is taken: it has a resolution of one second."""
    while os.path.exists(f"{folder}_archived_{get_time_str()}"):
        time.sleep(0.1)


def claim(run: Path) -> None:
    """Locks a run's folder: only this process trains in it until it ends.

    A rank whose torchrun was killed trains on, and a run that is resumed beside it would mix their checkpoints.

    Raises:
        GCFSRError: another process trains there.
    """
    if fcntl is None:
        return
    run.parent.mkdir(parents=True, exist_ok=True)
    file = open(run.parent / f".{run.name}.lock", "a+")  # noqa: SIM115 - the lock lasts until the process ends
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock's, not shared with workers
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        raise GCFSRError(f"{run}: process {holder} trains there; stop it first or give this run another name") from None
    except OSError:
        return  # a file system without locks
    file.truncate(0)
    file.write(f"{os.getpid()} of {socket.gethostname()}")
    file.flush()
    _claims.append(file)


def newest_checkpoint(opt: Options) -> tuple[Path | None, Options]:
    """The newest valid checkpoint of a run's folder and its state; (None, {}) where the folder has none.

    Raises:
        GCFSRError: there are checkpoints, and all of them are damaged.
    """
    folder = opt["path"]["training_states"]
    found, state, faults = checkpoints.newest_valid(folder)
    lines = [f"gcfsr: warning: {fault}" for fault in faults]
    if found is not None:
        lines.append(f"gcfsr: --auto_resume resumes from {found}")
    elif faults:
        raise GCFSRError(f"{folder}: --auto_resume finds no valid checkpoint; move the folder away to start a new run")
    elif not opt["path"].get("resume_state"):
        lines.append(f"gcfsr: --auto_resume finds no checkpoint in {folder}: a new run begins")
    if opt["rank"] == 0:
        print("\n".join(lines))  # BasicSR's logger does not exist yet
    return found, state


def point_at_networks(opt: Options, found: Path, state: Options) -> None:
    """BasicSR loads the networks from their pretrained paths; here they become those beside the state."""
    paths = opt["path"]
    given = paths.get("ignore_resume_networks") or []
    left_alone = [given] if isinstance(given, str) else [*given]
    if opt["train"].get("gan_opt") is None:
        left_alone.append("network_d")  # is neither built nor saved
    for network in (key for key in opt if key.startswith("network_") and key not in left_alone and opt[key]):
        label = network.replace("network_", "net_")
        path = checkpoints.models_folder(found) / f"{label}_{state['iter']}.pth"
        if not path.is_file():
            raise GCFSRError(
                f"{path}: is missing, {found} cannot be resumed without it; put it back or take another state"
            )
        paths[f"pretrain_{network}"] = str(path)
        paths[f"param_key_{network.removeprefix('network_')}"] = "params"


class RecordingLine(TrainLine):
    """The console line, which also writes the run's metrics.jsonl."""

    def __init__(self, opt: Options, start_iter: int = 1, tb_logger: Any = None) -> None:
        super().__init__(opt, start_iter, tb_logger)
        self.run = opt["path"]["experiments_root"] if opt["rank"] == 0 else None

    def __call__(self, log_vars: Options) -> None:
        """Records and prints one iteration; see `TrainLine`."""
        if self.run is not None:
            losses = {k: v for k, v in log_vars.items() if k not in ("epoch", "iter", "lrs", "time", "data_time")}
            lr = log_vars["lrs"][0]
            curves.append(self.run, {"iter": log_vars["iter"], "epoch": log_vars["epoch"], "lr": lr, "losses": losses})
        super().__call__(log_vars)
        if self.tb_logger:
            self.tb_logger.flush()  # a killed run keeps its curves
