"""Training and testing from an option file: `python -m gcfsr_arch.train -opt FILE` registers, then runs BasicSR's.

`torchrun --nproc_per_node=2 -m gcfsr_arch.train -opt FILE --launcher pytorch` is the same on several devices. Every
option of BasicSR's `train.py` works: `--auto_resume`, `--debug`, `--force_yml KEY:KEY=VALUE`.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import gcfsr_autoload
from gcfsr_arch.errors import GCFSRError, exit_status

WITHOUT_BASICSR = (
    "training needs BasicSR, which is not installed: `pip install --no-build-isolation 'gcfsr[train]'`; on Python 3.13 "
    "and later, where its setup fails, then git clone its repository and put that folder on PYTHONPATH"
)


def run_pipeline(argv: list[str], is_train: bool = True) -> None:
    """Runs BasicSR's `train_pipeline` or `test_pipeline` with our names registered, even under `GCFSR_AUTOLOAD=0`.

    Args:
        argv: the command line after the program's name, as BasicSR's `train.py` takes it. An option file that is not
            there but comes with the package is named by its file name alone.
        is_train: False for `test_pipeline`.

    Raises:
        GCFSRError: where BasicSR or the option file is missing, and for every fault of the options.
    """
    gcfsr_autoload.install()
    if find_spec("basicsr") is None:
        raise GCFSRError(WITHOUT_BASICSR)
    name = "train" if is_train else "test"
    sys.argv = [f"gcfsr {name}", *resolve_option_file(argv)]
    import_module("gcfsr_arch.register")
    import_module("gcfsr_arch.training.hooks").run_pipeline(name)


def resolve_option_file(argv: list[str]) -> list[str]:
    """The same command line with the path of a bundled option file where only its name is given.

    Raises:
        GCFSRError: the option file does not exist and is not bundled.
    """
    argv = list(argv)
    if "-opt" not in argv[:-1]:
        return argv
    place = argv.index("-opt") + 1
    path = Path(argv[place])
    if path.is_file():
        return argv
    bundled = bundled_options()
    if path.name != argv[place] or path.name not in bundled:
        raise GCFSRError(f"{path}: there is no such option file; give a path, or one of {', '.join(sorted(bundled))}")
    print(f"{path} comes with gcfsr: {bundled[path.name]}")
    argv[place] = str(bundled[path.name])
    return argv


def bundled_options() -> dict[str, Path]:
    """The bundled option files: file name -> path; of two installs the one that Python would take."""
    folders = [Path(folder) for folder in import_module("gcfsr_options").__path__]
    return {path.name: path for folder in reversed(folders) for path in sorted(folder.glob("*.yml"))}


if __name__ == "__main__":
    sys.exit(exit_status(lambda: run_pipeline(sys.argv[1:])))
