"""The names of BasicSR that we replace; a missing one is an error that names BasicSR's version."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from basicsr.version import __version__

from gcfsr_arch.errors import GCFSRError

Namespace = dict[str, Any]

PATCHED: dict[str, tuple[str, ...]] = {
    "basicsr.utils.options": ("parse_options",),
    "basicsr.train": (  # the functions that `train_pipeline` looks up when it calls them
        *("parse_options", "load_resume_state", "copy_opt_file", "init_tb_loggers"),
        *("create_train_val_dataloader", "build_model", "MessageLogger"),
    ),
    "basicsr.test": ("parse_options",),
    "basicsr.archs.vgg_arch": ("VGG_PRETRAIN_PATH",),
}
# What `train_pipeline` calls on the model, in this order in every iteration: a checkpoint waits for its validation.
LOOP = ("update_learning_rate", "feed_data", "optimize_parameters", "save", "validation")


def patch(where: str, ours: Mapping[str, Any], namespace: Namespace | None = None) -> Namespace:
    """Replaces names of a module of BasicSR.

    Args:
        where: the module, a key of `PATCHED`.
        ours: name -> what replaces it; every name is listed in `PATCHED`.
        namespace: the module's own where it runs as a script; otherwise the imported module's.

    Returns:
        name -> what was there before.

    Raises:
        GCFSRError: this BasicSR lacks one of the names.
    """
    namespace = vars(import_module(where)) if namespace is None else namespace
    unlisted = ours.keys() - set(PATCHED[where])
    assert not unlisted, f"{where}: {unlisted} must be listed in PATCHED"
    for name in ours:
        if name not in namespace:
            raise GCFSRError(
                f"BasicSR {__version__}: {where} has no {name}, which gcfsr replaces; install basicsr 1.4.2"
            )
    before = {name: namespace[name] for name in ours}
    namespace.update(ours)
    return before


@contextmanager
def replaced(where: str, **ours: Any) -> Iterator[None]:
    """Replaces names of a module of BasicSR inside the block; raises as `patch` does."""
    before = patch(where, ours)
    try:
        yield
    finally:
        vars(sys.modules[where]).update(before)


def check_loop(train_pipeline: Any) -> None:
    """Checks the order of BasicSR's training loop, on which exact resume relies.

    Raises:
        GCFSRError: the loop does not call the model's methods in the order of `LOOP`.
    """
    called = train_pipeline.__code__.co_names  # in the order of their first use
    places = [called.index(name) if name in called else -1 for name in LOOP]
    if -1 in places or places != sorted(places):
        raise GCFSRError(
            f"BasicSR {__version__}: basicsr.train.train_pipeline does not call {', '.join(LOOP)} in this order, on "
            "which exact resume relies; install basicsr 1.4.2"
        )
