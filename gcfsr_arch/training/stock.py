"""Where BasicSR's stock pipeline learns about our model types; for every other one it stays as it is.

`install()` puts our `parse_options` in place of BasicSR's. Where the option file names one of our model types it

- starts torchrun's ranks with gloo where there is no GPU (BasicSR divides by zero there);
- sends the run to `./experiments` and `./results` of the starting directory, or to `path: experiments_root` and
  `path: results_root`, TensorBoard included, never beside BasicSR's own files;
- checks the options before anything is built (`options.py`), and translates the authors' (`released_options.py`);
- hooks the pipeline that called it (`basicsr/train.py` or `test.py`, run as a script or imported): the functions of
  `pipeline.py`'s table take the place of those of the same name, which the pipeline looks up when it calls them.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any

import basicsr.utils.dist_util as basicsr_dist
import basicsr.utils.options as basicsr_options
import torch
import torch.distributed as dist
import yaml
from basicsr.utils.registry import MODEL_REGISTRY

from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.files import make_folder
from gcfsr_arch.training.loading import told_loading_fault
from gcfsr_arch.training.pipeline import PIPELINE, checked_options, not_its_own_copy, overlay
from gcfsr_arch.training.released_options import our_options

Options = dict[str, Any]

_parse_options = basicsr_options.parse_options  # BasicSR's own


def install() -> None:
    """Puts our `parse_options` wherever BasicSR's has been bound by now. Twice is harmless."""
    for name in ("basicsr.utils.options", "basicsr.train", "basicsr.test"):
        module = sys.modules.get(name)
        if getattr(module, "parse_options", None) is _parse_options:
            vars(module)["parse_options"] = parse_options


def parse_options(root_path: str, is_train: bool = True) -> tuple[Options, argparse.Namespace]:
    """BasicSR's `parse_options`; for our model types with the hooks above.

    Raises:
        GCFSRError: the faults of the option file, a line each; before anything is built.
    """
    file, force = command_line(sys.argv[1:])
    raw = peek(file, force)
    if not is_ours(raw.get("model_type")) and not meant_as_ours(raw.get("model_type")):
        return _parse_options(root_path, is_train=is_train)
    sys.excepthook = fault_in_one_line
    report = checked_options(file, force, is_train)
    checked = SimpleNamespace(load=lambda file, Loader: deepcopy(report.options))  # in yaml's place
    with replaced(vars(basicsr_options), init_dist=init_dist, yaml=checked, ordered_yaml=lambda: (None, None)):
        opt, args = _parse_options(root_path, is_train=is_train)
    overlay(opt, report)
    if opt["num_gpu"] and not torch.cuda.is_available():
        raise GCFSRError(f"{file}: num_gpu: is {opt['num_gpu']}, but there is no CUDA device; set 0 or auto")
    opt = our_options(opt)
    place_run(opt, raw.get("path") or {})
    if is_train:
        args.opt = not_its_own_copy(args.opt, opt)
    hook_pipeline(sys._getframe(1).f_globals)
    return opt, args


def is_ours(model_type: Any) -> bool:
    """Whether a registered model type is one of our models or derives from one."""
    model = MODEL_REGISTRY.get(model_type) if isinstance(model_type, str) and model_type in MODEL_REGISTRY else None
    return any(kind.__module__.startswith("gcfsr_arch.") for kind in getattr(model, "__mro__", ()))


def meant_as_ours(model_type: Any) -> bool:
    """Whether a name that no registry holds is one of ours misspelt."""
    known = MODEL_REGISTRY.keys()
    near = get_close_matches(str(model_type), known, n=1) if model_type and model_type not in known else ()
    return any(is_ours(name) for name in near)


# ---- before BasicSR reads the options -------------------------------------------------------------------------------


def command_line(argv: list[str]) -> tuple[str, list[str]]:
    """The option file and the `--force_yml` entries of a BasicSR command line; its own parser judges the rest."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("-opt", default="")
    parser.add_argument("--force_yml", nargs="+", default=[])
    try:
        args, _ = parser.parse_known_args(argv)
    except argparse.ArgumentError:
        return "", []
    return args.opt, args.force_yml


def peek(file: str, force: list[str]) -> Options:
    """The option file with `--force_yml` applied, values as text; {} where it is unreadable.

    BasicSR's parser comes next and says what is wrong with an unreadable one.
    """
    try:
        opt = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    for entry in force:
        keys, _, value = entry.partition("=")
        *parents, last = (key.strip() for key in keys.split(":"))
        place = opt
        for key in parents:
            place = place.get(key) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place[last] = None if value.strip().lower() in ("~", "none") else value.strip()
    return opt if isinstance(opt, dict) else {}


@contextmanager
def replaced(namespace: dict[str, Any], **ours: Any) -> Iterator[None]:
    """Replaces names of a module for as long as the block runs."""
    theirs = {name: namespace[name] for name in ours}
    namespace.update(ours)
    try:
        yield
    finally:
        namespace.update(theirs)


def init_dist(launcher: str, backend: str = "nccl", **kwargs: Any) -> None:
    """Starts the process group of a torchrun rank: nccl with GPUs, gloo without.

    Raises:
        GCFSRError: for `--launcher pytorch` in a process that torchrun did not start.
    """
    if launcher != "pytorch":
        return basicsr_dist.init_dist(launcher, backend=backend, **kwargs)
    if "LOCAL_RANK" not in os.environ:
        raise GCFSRError("--launcher pytorch: torchrun did not start this process; run `torchrun --nproc_per_node=N`")
    if not torch.cuda.is_available():
        return dist.init_process_group("gloo")
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    torch.multiprocessing.set_start_method("spawn", force=True)  # workers forked beside nccl's threads may hang
    return dist.init_process_group("nccl")


# ---- after it -------------------------------------------------------------------------------------------------------


def place_run(opt: Options, raw_path: Options) -> None:
    """Sets every folder of the run; `raw_path` is the block `path` as the user wrote it.

    Raises:
        GCFSRError: the folder of runs cannot be made or written into.
    """
    kind = "experiments" if opt["is_train"] else "results"
    parent = Path(raw_path.get(f"{kind}_root") or kind).expanduser().absolute()
    make_folder(parent, key=f"path.{kind}_root")
    run = parent / opt["name"]
    for key in ("experiments_root", "results_root"):
        opt["path"].pop(key, None)
    opt["path"].update({f"{kind}_root": str(run), "log": str(run), "visualization": str(run / "visualization")})
    if opt["is_train"]:
        opt["path"].update(models=str(run / "models"), training_states=str(run / "training_states"))


def hook_pipeline(namespace: dict[str, Any]) -> None:
    """Puts the functions of `PIPELINE` into the module of the calling pipeline, each for our model types only."""
    for name, ours in PIPELINE.items():
        if name in namespace and not hasattr(namespace[name], "basicsr"):
            namespace[name] = for_our_models(ours, namespace[name])


def for_our_models(ours: Callable[..., Any], theirs: Callable[..., Any]) -> Callable[..., Any]:
    """Calls `ours` or BasicSR's function by the `model_type` of the options, the first argument of both."""

    @wraps(theirs)
    def call(opt: Options, *args: Any, **kwargs: Any) -> Any:
        return (ours if is_ours(opt["model_type"]) else theirs)(opt, *args, **kwargs)

    vars(call)["basicsr"] = theirs
    return call


def fault_in_one_line(kind: type[BaseException], fault: BaseException, trace: TracebackType | None) -> None:
    """`sys.excepthook` of a run of ours: what the user can mend stands in one line, exit status 2; the rest as ever."""
    told = told_loading_fault(fault) or fault
    if not isinstance(told, GCFSRError):
        return sys.__excepthook__(kind, fault, trace)
    print(f"gcfsr: error: {told}", file=sys.stderr)
    raise SystemExit(2)
