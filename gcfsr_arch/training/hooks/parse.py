"""Our `parse_options`, which replaces BasicSR's; for any model type that is not ours it calls BasicSR's own.

For our model types it

- checks the options before anything is built and translates the authors' names;
- starts torchrun's ranks with gloo where there is no GPU (BasicSR divides by zero there);
- sends the run to `./experiments` or `./results` of the working directory, or to `path: experiments_root` or
  `path: results_root`, TensorBoard included, never beside BasicSR's own files;
- hooks the pipeline that called it (`basicsr/train.py`, run as a script or imported) with the functions of `run.py`.
"""

import argparse
import atexit
import os
import random
import sys
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

import basicsr.utils.dist_util as basicsr_dist
import basicsr.utils.options as basicsr_options
import torch
import torch.distributed as dist
from basicsr.utils import set_random_seed
from basicsr.utils.registry import MODEL_REGISTRY

from gcfsr_arch.devices import keep_freed_memory
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.files import make_folder
from gcfsr_arch.training.hooks import table
from gcfsr_arch.training.hooks.run import TrainRun
from gcfsr_arch.training.options import Report, apply_force, check, read_options
from gcfsr_arch.training.options.data import DATASETS
from gcfsr_arch.training.options.released import our_options
from gcfsr_arch.training.ranks import from_first_rank, is_distributed
from gcfsr_arch.training.workers import worker_death

Options = dict[str, Any]

DATA_PATHS = ("dataroot_gt", "dataroot_lq", "meta_info_file", "exclude_list", "luminance_cache", "valid_corners")

basicsr_parse_options = getattr(basicsr_options, "parse_options", None)
_hooked: list[tuple[table.Namespace, table.Namespace]] = []  # (a pipeline's namespace, its own functions)


def install() -> None:
    """Replaces `parse_options` in every module of BasicSR that has been imported by now. Calling it twice is harmless.

    Raises:
        GCFSRError: this BasicSR has no `parse_options`.
    """
    for where in ("basicsr.utils.options", "basicsr.train", "basicsr.test"):
        module = sys.modules.get(where)
        if where == "basicsr.utils.options" or getattr(module, "parse_options", None) is basicsr_parse_options:
            table.patch(where, {"parse_options": parse_options})


def run_pipeline(name: str) -> None:
    """Runs BasicSR's `train_pipeline` or `test_pipeline` for `gcfsr train` and `gcfsr test`.

    Args:
        name: "train" or "test".

    Raises:
        GCFSRError: as `parse_options`, and also for a file that is not valid YAML, whose model type is unknown.
    """
    pipeline = import_module(f"basicsr.{name}")
    with table.replaced(f"basicsr.{name}", parse_options=partial(parse_options, ours_alone=True)):
        getattr(pipeline, f"{name}_pipeline")(str(Path.cwd()))


def parse_options(
    root_path: str, is_train: bool = True, *, ours_alone: bool = False
) -> tuple[Options, argparse.Namespace]:
    """BasicSR's `parse_options`; for our model types as described above.

    Args:
        root_path: BasicSR's root folder, which only models that are not ours use.
        is_train: whether train.py calls it, or test.py.
        ours_alone: an option file that cannot be read is our error, not BasicSR's.

    Raises:
        GCFSRError: every fault of the option file, a line each, before anything is built.
    """
    unhook()
    args = command_line()
    try:
        options, faults = read_options(Path(args.opt))
    except GCFSRError:
        if ours_alone:
            raise
        return basicsr_parse_options(root_path, is_train=is_train)  # says itself what is wrong with the file
    faults += [fault for entry in args.force_yml if (fault := apply_force(options, entry)) is not None]
    if not is_ours(options.get("model_type")) and not is_likely_typo(options.get("model_type")):
        return basicsr_parse_options(root_path, is_train=is_train)
    sys.excepthook = error_in_one_line
    report = without_faults(check(options, is_train, faults), args.opt)
    opt = run_options(our_options(report.options), args, is_train)
    if opt["num_gpu"] and not torch.cuda.is_available():
        raise GCFSRError(f"{args.opt}: num_gpu: is {opt['num_gpu']}, but there is no CUDA device; set 0 or auto")
    if not opt["num_gpu"]:
        keep_freed_memory()
    place_run(opt)
    if is_train:
        hook(sys._getframe(1).f_globals)
    return opt, args


def command_line() -> argparse.Namespace:
    """The command line of BasicSR's train.py and test.py."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-opt", required=True, help="option file (YAML)")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm"], default="none")
    parser.add_argument("--auto_resume", action="store_true")
    parser.add_argument("--debug", action="store_true")
    parser.add_argument("--local_rank", type=int, default=0)
    parser.add_argument("--force_yml", nargs="+", default=[], help="change options: train:ema_decay=0.999")
    return parser.parse_args()


def is_ours(model_type: Any) -> bool:
    """Whether a registered model type is one of our models or derives from one."""
    model = MODEL_REGISTRY.get(model_type) if isinstance(model_type, str) and model_type in MODEL_REGISTRY else None
    return any(kind.__module__.startswith("gcfsr_arch.") for kind in getattr(model, "__mro__", ()))


def is_likely_typo(model_type: Any) -> bool:
    """Whether an unknown name is a likely typo of one of ours."""
    known = MODEL_REGISTRY.keys()
    near = get_close_matches(str(model_type), known, n=1) if model_type and model_type not in known else ()
    return any(is_ours(name) for name in near)


def without_faults(report: Report, file: str) -> Report:
    """The report of an option file that has no faults; rank 0 prints its remarks.

    Raises:
        GCFSRError: every fault, a line each; on the other ranks a SystemExit, so that nothing is printed twice.
    """
    first = os.environ.get("RANK", "0") == "0"
    if report.faults and not first:
        raise SystemExit(2)
    if report.faults:
        raise GCFSRError("\ngcfsr: error: ".join(report.lines(file)))
    for remark in report.remarks() if first else ():
        print(f"gcfsr: {remark}")
    return report


# ---- the options of a run -------------------------------------------------------------------------------------------


def run_options(opt: Options, args: argparse.Namespace, is_train: bool) -> Options:
    """The options of a file with what BasicSR's own `parse_options` adds to them: rank, seed, phases, debug mode.

    Args:
        opt: checked options in our words; changed in place.
    """
    opt |= {"dist": args.launcher != "none", "auto_resume": args.auto_resume, "is_train": is_train}
    if opt["dist"]:
        init_dist(args.launcher, **((opt.get("dist_params") or {}) if args.launcher == "slurm" else {}))
    opt["rank"], opt["world_size"] = basicsr_dist.get_dist_info()
    if opt.get("manual_seed") is None:
        opt["manual_seed"] = from_first_rank(random.randint(1, 10000))
    set_random_seed(opt["manual_seed"] + opt["rank"])
    if opt["num_gpu"] == "auto":
        opt["num_gpu"] = torch.cuda.device_count()
    for name, block in opt["datasets"].items():
        data_options(block, name.split("_")[0], opt["manual_seed"])
    for key, value in opt["path"].items():
        if isinstance(value, str):
            opt["path"][key] = os.path.expanduser(value)
    if opt.get("val") or not is_train:
        opt["val"] = {"save_img": False, **(opt.get("val") or {})}  # BasicSR has no default for it
    if args.debug and not opt["name"].startswith("debug"):
        opt["name"] = f"debug_{opt['name']}"
    if is_train and "debug" in opt["name"]:
        opt["logger"] |= {"print_freq": 1, "save_checkpoint_freq": 8}
        if opt.get("val"):
            opt["val"]["val_freq"] = 8
    return opt


def data_options(block: Options, phase: str, manual_seed: int) -> None:
    """Completes one block of `datasets` in place: its phase, its folders, and the seed of a training set of ours.

    Validation sets keep the seed of their own block, so that runs of different seeds are validated on the same inputs.
    """
    block["phase"] = phase
    for place in (block, block.get("paired") or {}):
        place |= {key: os.path.expanduser(place[key]) for key in DATA_PATHS if place.get(key) is not None}
    if block.get("extra_roots"):
        block["extra_roots"] = [os.path.expanduser(root) for root in block["extra_roots"]]
    kind = DATASETS.get(block.get("type", ""))
    if phase == "train" and kind is not None and "seed" in kind.model_fields:
        block.setdefault("seed", manual_seed)


def init_dist(launcher: str, **kwargs: Any) -> None:
    """Starts the process group of a torchrun rank: nccl with GPUs, gloo without.

    Raises:
        GCFSRError: for `--launcher pytorch` in a process that torchrun did not start.
    """
    if launcher != "pytorch":
        return basicsr_dist.init_dist(launcher, **kwargs)
    if "LOCAL_RANK" not in os.environ:
        raise GCFSRError("--launcher pytorch: torchrun did not start this process; run `torchrun --nproc_per_node=N`")
    if not torch.cuda.is_available():
        dist.init_process_group("gloo")
        atexit.register(leave_group)  # a thread of gloo's that outlives the interpreter can abort the rank
        return None
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    torch.multiprocessing.set_start_method("spawn", force=True)  # workers forked beside nccl's threads may hang
    return dist.init_process_group("nccl")


def leave_group() -> None:
    """Ends this rank's part in the process group, if it has one."""
    if is_distributed():
        dist.destroy_process_group()


def place_run(opt: Options) -> None:
    """Sets every folder of the run.

    Raises:
        GCFSRError: the folder of runs cannot be made or written into.
    """
    kind = "experiments" if opt["is_train"] else "results"
    parent = Path(opt["path"].get(f"{kind}_root") or kind).absolute()
    make_folder(parent, key=f"path.{kind}_root")
    run = parent / opt["name"]
    for key in ("experiments_root", "results_root"):
        opt["path"].pop(key, None)
    opt["path"].update({f"{kind}_root": str(run), "log": str(run), "visualization": str(run / "visualization")})
    if opt["is_train"]:
        opt["path"].update(models=str(run / "models"), training_states=str(run / "training_states"))


# ---- the pipeline that called ---------------------------------------------------------------------------------------


def hook(namespace: table.Namespace) -> None:
    """Replaces the functions of the calling train.py by those of a `TrainRun`, until the next `parse_options`.

    Raises:
        GCFSRError: this BasicSR lacks one of them, or its training loop has another order.
    """
    table.check_loop(namespace["train_pipeline"])
    _hooked.append((namespace, table.patch("basicsr.train", TrainRun().functions(), namespace)))


def unhook() -> None:
    """Restores the functions of a hooked pipeline."""
    while _hooked:
        namespace, before = _hooked.pop()
        namespace.update(before)


def error_in_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """`sys.excepthook` of a run of ours: prints user errors on one line, exit status 2; others are unchanged."""
    reported = worker_death(error) or error
    if not isinstance(reported, GCFSRError):
        return sys.__excepthook__(kind, error, trace)
    print(f"gcfsr: error: {reported}", file=sys.stderr)
    raise SystemExit(2)
