"""Lets the stock BasicSR find `gcfsr`: `import torch` calls `register()` through the entry point `torch.backends`.

It puts one finder on `sys.meta_path`, which acts only when BasicSR is imported:

- `torchvision.transforms.functional_tensor`, removed in torchvision 0.17, is provided to BasicSR as an alias;
- once `basicsr.models` is loaded, `gcfsr_arch.register` is imported, which registers our classes;
- a source tree on which BasicSR's setup was never run gets what the setup would provide: `python basicsr/train.py`
  finds the package beside it, and `basicsr.version` is read from the file VERSION.

Only the standard library is used, since every `import torch` of the environment runs it.
`GCFSR_AUTOLOAD=0` turns it off.
"""

import os
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

PACKAGE, MODELS, VERSION = "basicsr", "basicsr.models", "basicsr.version"
ALIAS = "torchvision.transforms.functional_tensor"


def register() -> None:
    """The entry point: installs the finder unless `GCFSR_AUTOLOAD=0`. Never raises."""
    if os.environ.get("GCFSR_AUTOLOAD", "1") != "0":
        install()


def install() -> None:
    """Installs the finder once, regardless of GCFSR_AUTOLOAD; `gcfsr train` calls it explicitly."""
    if not any(isinstance(finder, BasicSRFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, BasicSRFinder())


class BasicSRFinder:
    """Finds the four modules above and leaves every other one to the finders after it."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != PACKAGE and (name not in (MODELS, VERSION, ALIAS) or PACKAGE not in sys.modules):
            return None
        spec = self._ask_others(name, path, target)
        if name == MODELS and spec is not None:
            spec.loader = RegisterAfter(spec.loader)
        elif spec is None and name == PACKAGE:
            return PathFinder.find_spec(name, source_tree_of(sys.argv))
        elif spec is None and name != MODELS:
            return ModuleSpec(name, AliasLoader() if name == ALIAS else VersionLoader())
        return spec

    def _ask_others(self, name: str, path: Any, target: Any) -> ModuleSpec | None:
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    return spec
        return None


def source_tree_of(argv: list[str]) -> list[str]:
    """The source tree whose `basicsr/train.py` or `basicsr/test.py` is running, as a search path; else none."""
    folder = os.path.dirname(os.path.abspath(argv[0])) if argv else ""
    return [os.path.dirname(folder)] if os.path.basename(folder) == PACKAGE else []


class AliasLoader:
    """`functional_tensor` as far as BasicSR uses it: `rgb_to_grayscale`, from where torchvision has it now."""

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(rgb_to_grayscale=import_module("torchvision.transforms.functional").rgb_to_grayscale)


class VersionLoader:
    """`basicsr.version` for a source tree on which setup.py never ran: the version is in the file VERSION beside it."""

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        package = sys.modules[PACKAGE].__path__[0]
        with open(os.path.join(package, os.pardir, "VERSION"), encoding="utf-8") as file:
            version = file.read().strip()
        vars(module).update(__version__=version, __gitsha__="unknown", version_info=tuple(version.split(".")))


class RegisterAfter:
    """The loader of `basicsr.models`, which imports `gcfsr_arch.register` when it is done."""

    def __init__(self, loader: Any):
        self._loader = loader

    def __getattr__(self, name: str) -> Any:  # get_source, is_package, ...: inspect and pickle ask for them
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        try:
            import_module("gcfsr_arch.register")
        except Exception as error:  # noqa: BLE001  an error of ours must not break BasicSR for others
            print(f"gcfsr: not registered in BasicSR ({type(error).__name__}: {error})", file=sys.stderr)
