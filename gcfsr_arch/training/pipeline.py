"""What takes the place of functions of BasicSR's train.py for our models: finding a checkpoint, loaders, logs."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from basicsr.utils import init_wandb_logger

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.training import checkpoints, curves
from gcfsr_arch.training.console import TrainLine
from gcfsr_arch.training.loaders import create_train_val_dataloader
from gcfsr_arch.training.options import Report, check_file
from gcfsr_arch.training.resume import OURS

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

Options = dict[str, Any]
_claims: list[IO[str]] = []


def checked_options(file: str, force: list[str], is_train: bool) -> Report:
    """Checks an option file; what it carries for nothing is told on rank 0.

    Raises:
        GCFSRError: every fault, a line each; on other ranks than the first a SystemExit, which says nothing twice.
    """
    report = check_file(file, force, is_train)
    first = os.environ.get("RANK", "0") == "0"
    if report.faults and not first:
        raise SystemExit(2)
    if report.faults:
        raise GCFSRError("\ngcfsr: error: ".join(report.lines(file)))
    for path, reason in report.ignored if first else ():
        print(f"gcfsr: ignored: {path}: {reason}")
    if report.options.get("val"):
        report.options["val"].setdefault("save_img", False)  # BasicSR has no default for it
    return report


def not_its_own_copy(file: str, opt: Options) -> str:
    """The option file, or a copy elsewhere where it is the very file that BasicSR is about to write into the run."""
    target = Path(opt["path"]["experiments_root"]) / Path(file).name
    if not target.exists() or not target.samefile(file):
        return file
    return shutil.copy(file, tempfile.mkdtemp(prefix="gcfsr-options-"))


def overlay(opt: Options, report: Report) -> None:
    """Makes numbers of the text that BasicSR's `--force_yml` leaves; what BasicSR itself changed stays."""

    def walk(opt: Options, raw: Options, checked: Options) -> None:
        for key, value in checked.items():
            if isinstance(value, dict) and isinstance(opt.get(key), dict):
                walk(opt[key], raw.get(key) or {}, value)
            elif isinstance(opt.get(key), str) and not isinstance(value, str) and opt[key] == raw.get(key):
                opt[key] = value

    walk(opt, report.raw, report.options)


def load_resume_state(opt: Options) -> Options | None:
    """The state that the run goes on from, on the CPU; None for a new run.

    With `--auto_resume` the newest sound checkpoint of the run's own folder, else `path: resume_state`. Leaves the
    place in the data in `opt["resume"]` and points the networks' paths at the checkpoint's.

    Raises:
        GCFSRError: a state was asked for and there is none, or all there are are damaged.
    """
    paths = opt["path"]
    if opt["rank"] == 0:
        claim(Path(paths["experiments_root"]))
    opt["root_path"] = str(Path(paths["experiments_root"]).parent)  # TensorBoard's folder is built from it
    found, state = _newest(opt) if opt["auto_resume"] else (None, {})
    if found is None and paths.get("resume_state"):
        found = Path(paths["resume_state"])
        state = checkpoints.sound_state(found)
    if found is None:
        return None
    paths["resume_state"] = str(found)
    for key in ("experiments_root", "models", "training_states", "visualization"):
        os.makedirs(paths[key], exist_ok=True)  # the state may be another run's
    _point_at_networks(opt, found, state)
    ours = state.get(OURS) or {}
    opt["resume"] = {"iteration": state["iter"], "epoch": state["epoch"], "samples": ours.get("samples", 0)}
    if opt["rank"] == 0:
        checkpoints.remove_partial(paths["models"], paths["training_states"])
        curves.forget_after(paths["experiments_root"], state["iter"])
    return state


def claim(run: Path) -> None:
    """Makes this process the only one that trains in a run's folder, for as long as it lives.

    A rank whose torchrun was killed trains on, and a run that is resumed beside it would mix their checkpoints.

    Raises:
        GCFSRError: another process trains there.
    """
    if fcntl is None:
        return
    run.parent.mkdir(parents=True, exist_ok=True)
    file = open(run.parent / f".{run.name}.lock", "a+")  # noqa: SIM115 - the lock lasts until the process ends
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock's, not shared with loading processes
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


def _newest(opt: Options) -> tuple[Path | None, Options]:
    folder = opt["path"]["training_states"]
    found, state, faults = checkpoints.newest_sound(folder)
    tell = print if opt["rank"] == 0 else _quiet  # BasicSR's logger does not exist yet
    for fault in faults:
        tell(f"gcfsr: warning: {fault}")
    if found is not None:
        tell(f"gcfsr: --auto_resume goes on from {found}")
    elif faults:
        raise GCFSRError(f"{folder}: --auto_resume finds no sound checkpoint; move the folder away to start anew")
    elif not opt["path"].get("resume_state"):
        tell(f"gcfsr: --auto_resume finds no checkpoint in {folder}: a new run begins")
    return found, state


def _quiet(line: str) -> None:
    """Other ranks say what rank 0 says."""


def _point_at_networks(opt: Options, found: Path, state: Options) -> None:
    """BasicSR loads the networks from their pretrained paths; here they become those beside the state."""
    paths = opt["path"]
    left_alone = paths.get("ignore_resume_networks") or ()
    for network in (key for key in opt if key.startswith("network_") and key not in left_alone and opt[key]):
        label = network.replace("network_", "net_")
        path = checkpoints.models_folder(found) / f"{label}_{state['iter']}.pth"
        if not path.is_file():
            raise GCFSRError(
                f"{path}: is missing, {found} cannot be resumed without it; put it back or take another state"
            )
        paths[f"pretrain_{network}"] = str(path)
        paths[f"param_key_{network.removeprefix('network_')}"] = "params"


def init_tb_loggers(opt: Options) -> Any:
    """TensorBoard's writer on rank 0; a resumed run's curves go on from its state and not beside what came after it."""
    if ((opt["logger"].get("wandb") or {}).get("project")) and "debug" not in opt["name"]:
        init_wandb_logger(opt)
    if not opt["logger"].get("use_tb_logger") or "debug" in opt["name"] or opt["rank"] != 0:
        return None
    from torch.utils.tensorboard import SummaryWriter

    after = opt["resume"]["iteration"] + 1 if opt.get("resume") else None
    return SummaryWriter(str(Path(opt["root_path"]) / "tb_logger" / opt["name"]), purge_step=after)


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


PIPELINE: dict[str, Callable[..., Any]] = {
    "load_resume_state": load_resume_state,
    "create_train_val_dataloader": create_train_val_dataloader,
    "init_tb_loggers": init_tb_loggers,
    "MessageLogger": RecordingLine,
}
