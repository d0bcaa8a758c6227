"""Builds the methods that `--method` names."""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import gcfsr_autoload
from gcfsr_arch.errors import GCFSRError, first_line
from gcfsr_inference.evaluation.method_names import basicsr_files, check_method, checkpoint_of, parse_method
from gcfsr_inference.evaluation.methods import Bicubic, Checkpoint, Folder, Function, Lanczos, Method, Network
from gcfsr_inference.evaluation.metric_weights import INSTALL
from gcfsr_inference.restore.hashes import file_hash
from gcfsr_inference.restore.restorer import Restorer


def build_method(text: str, device: str = "cpu", seed: int = 0) -> Method:
    """Builds the method that a specification names.

    Args:
        text: see `gcfsr evaluate --help`; a label before "=" replaces the default one.
        device: where networks run.
        seed: seed of our generator's fixed noise.

    Raises:
        GCFSRError: the specification is invalid, or the file or folder does not exist or does not fit.
    """
    name = parse_method(text)
    check_method(name)
    if name.kind in ("bicubic", "lanczos"):
        method: Method = Bicubic() if name.kind == "bicubic" else Lanczos()
    else:
        method = BUILDERS[name.kind](name.where, name.options, device, seed)
    if name.label:
        method.label = name.label
    if not method.label or set(method.label) & set("/\\") or method.label.startswith("."):
        raise GCFSRError(f"--method {text}: the label {method.label!r} is not a valid folder name")
    return method


def _checkpoint(where: str, options: dict[str, str], device: str, seed: int) -> Checkpoint:
    path = checkpoint_of(where)
    s = float(_number(options["s"], 0, 1)) if "s" in options else None
    identity = {"kind": "gcfsr", "file": path.name, "sha256": file_hash(path), "seed": seed, **options}
    restorer, dials = Restorer.load(path, device), options.get("dials")
    fixed = dials if dials in (None, "auto", "true") else _number(dials, 0, 1)
    if isinstance(fixed, float) and len(restorer.conditions) == 1:
        raise GCFSRError(f"{path}: dials={dials}: this checkpoint has the factor's dial only; write ?s=, auto or true")
    return Checkpoint(path.stem, identity, restorer, seed, s, fixed)


def _number(text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise GCFSRError(f"{text!r}: not a number") from error
    if not low <= value <= high:
        raise GCFSRError(f"{text}: must lie in [{low:g}, {high:g}]")
    return value


def _folder(where: str, options: dict[str, str], device: str, seed: int) -> Folder:
    path = Path(where)
    return Folder(path.name, path, {"kind": "folder", "name": path.name})


def _flags(options: dict[str, str]) -> dict[str, bool]:
    known = {"input": ("up", "low"), "range": ("signed", "unit"), "fit": ("yes", "no")}
    for key, value in options.items():
        if value not in known[key]:
            raise GCFSRError(f"{key}={value}: must be {' or '.join(known[key])}")
    names = {"input": "upsampled", "range": "signed", "fit": "fit"}
    return {names[key]: value == known[key][0] for key, value in options.items()}


def _basicsr(where: str, options: dict[str, str], device: str, seed: int) -> Network:
    """Builds `network_g` of a BasicSR option file, with its checkpoint ('params_ema', 'params' or bare)."""
    gcfsr_autoload.install()  # without it BasicSR fails to import on current torchvision
    if find_spec("basicsr") is None:
        raise GCFSRError(f"--method basicsr: BasicSR is not installed; {INSTALL['basicsr']}")
    from basicsr.archs import build_network

    from gcfsr_arch.checkpoint import read_state
    from gcfsr_arch.training.options import read_options
    from gcfsr_measure.frozen import fill

    opt_path, path = basicsr_files(where)
    config = read_options(opt_path)[0].get("network_g")
    if not isinstance(config, dict):
        raise GCFSRError(f"{opt_path}: has no network_g, the architecture's type and arguments")
    try:
        model = build_network(config)
    except (KeyError, TypeError) as error:
        raise GCFSRError(f"{opt_path}: network_g: {error}") from error
    fill(model, read_state(path)[0], path)
    identity = {"kind": "basicsr", "arch": config["type"], "sha256": file_hash(path), **options}
    return Network(config["type"], identity, model.to(device), device, **_flags(options))


def _spandrel(where: str, options: dict[str, str], device: str, seed: int) -> Network:
    """Any single-image model that spandrel recognises; the input of one of scale 1 is the upsampled image."""
    if find_spec("spandrel") is None:
        raise GCFSRError("--method spandrel: spandrel is not installed; pip install 'gcfsr[spandrel]'")
    from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError

    path, flags = Path(where), _flags(options)
    try:
        model = ModelLoader(device).load_from_file(path)
    except (UnsupportedModelError, ValueError, RuntimeError) as error:
        raise GCFSRError(f"{path}: not a model that spandrel loads ({first_line(error)})") from error
    if not isinstance(model, ImageModelDescriptor) or model.input_channels != 3:
        raise GCFSRError(f"{path}: {model.architecture.name} does not take a single RGB image")
    identity = {"kind": "spandrel", "arch": model.architecture.name, "sha256": file_hash(path), **options}
    return Network(path.stem, identity, model.eval(), device, **{"upsampled": model.scale == 1, **flags})


def _python(where: str, options: dict[str, str], device: str, seed: int) -> Function:
    """A function of an importable module; the working directory is searched, too."""
    module, _, name = where.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise GCFSRError(f"python:{where}: {error}; write python:MODULE:FUNCTION") from error
    return Function(name, {"kind": "python", "function": where}, function)


BUILDERS = {
    "gcfsr": _checkpoint, "folder": _folder, "basicsr": _basicsr, "spandrel": _spandrel, "python": _python,
}  # fmt: skip
