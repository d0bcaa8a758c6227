"""Finds weights: checkpoints by name, and files of detectors, metrics and upscaling networks.

One order everywhere, first match wins: the folder of `--weights-dir`, the folder of $GCFSR_WEIGHTS, `~/.cache/gcfsr`,
the package. A folder that is named and does not exist is an error.
"""

import os
from dataclasses import dataclass
from glob import escape
from importlib.resources import files
from pathlib import Path

from gcfsr_arch.errors import GCFSRError

ENVIRONMENT = "GCFSR_WEIGHTS"
DEFAULT_FOLDER = "~/.cache/gcfsr"
DEFAULT_NAME = "gcfsr-256"
SUFFIXES = (".safetensors", ".pth", ".pt", ".onnx")


@dataclass(frozen=True)
class Known:
    """A file that others publish: `form` says how it is read, `what` what it is for."""

    name: str
    form: str
    what: str


# The names are those of the model zoo in the authors' repository; their files load under any name.
RELEASES = (
    Known("gcfsr-1024.pth", "released", "1024x1024, factors 4 to 64 (s = factor / 64); L1, perceptual and GAN loss"),
    Known("gcfsr-512.pth", "released", "512x512, factors 4 to 32 (s = factor / 32); GAN loss only (GCFSR_adv)"),
    Known("gcfsr-512-blind.pth", "released, blind", "512x512, real-world degradation, no dial"),
)


def user_folders(option: str | os.PathLike | None = None) -> list[Path]:
    """Folders of the user's own weights, first match wins: the option, $GCFSR_WEIGHTS, ~/.cache/gcfsr.

    Args:
        option: The folder a command was given; it must exist.

    Raises:
        GCFSRError: The option or the environment variable names a folder that does not exist.
    """
    found = []
    for origin, value in (("--weights-dir", option), (ENVIRONMENT, os.environ.get(ENVIRONMENT))):
        if not value:
            continue
        folder = Path(os.path.expanduser(value))
        if not folder.is_dir():
            raise GCFSRError(f"{folder}: {origin} names a folder that does not exist; make it or name another")
        found.append(folder)
    default = Path(os.path.expanduser(DEFAULT_FOLDER))  # as it is where the user has no home: no such folder
    return [*found, default] if default.is_dir() else found


def package_folder() -> Path:
    """The folder of the weights in the package."""
    return Path(str(files("gcfsr_inference"))) / "weights"


def bundled() -> dict[str, Path]:
    """The checkpoints in the package: name (without suffix) -> file."""
    return {path.stem: path for path in sorted(package_folder().glob("*.safetensors"))}


def licence_of(path: Path) -> str | None:
    """The licence text of a bundled checkpoint: NAME.LICENSE, else LICENSE of its folder, else None."""
    for candidate in (path.with_suffix(".LICENSE"), path.parent / "LICENSE"):
        if candidate.is_file():
            return candidate.read_text(encoding="utf-8").strip()
    return None


def find_file(pattern: str, option: str | os.PathLike | None = None) -> Path | None:
    """The file that matches a glob pattern in the first folder that has one (the last by name there), or None.

    Args:
        pattern: of the file's name.
        option: what `--weights-dir` gives, see `user_folders`.

    Raises:
        GCFSRError: as of `user_folders`.
    """
    for folder in (*user_folders(option), package_folder()):
        found = [path for path in sorted(folder.glob(pattern)) if path.is_file()]
        if found:
            return found[-1]
    return None


def missing(file: str, what: str, source: str, option: str | os.PathLike | None = None) -> str:
    """One line about a weights file that was not found: what it is for, who publishes it, where it belongs."""
    default = Path(os.path.expanduser(DEFAULT_FOLDER))
    named = [str(folder) for folder in user_folders(option) if folder != default]
    places = " or ".join([*named, DEFAULT_FOLDER])
    return (
        f"{file}: the weights of {what} are missing; put this file (from {source}) into {places}, "
        f"or name its folder with --weights-dir or {ENVIRONMENT}"
    )


def resolve_checkpoint(name: str | os.PathLike | None = None, option: str | os.PathLike | None = None) -> Path:
    """The file that `--checkpoint` means: a path, a bundled name, or a name in the user's folders.

    Args:
        name: Path or name; None is the bundled default, `gcfsr-256`.
        option: A further folder to look in (see `user_folders`).

    Raises:
        GCFSRError: There is no such file or folder; the message names `--checkpoint` and where files belong.
    """
    if option is not None:
        user_folders(option)  # raises where there is none
    wanted = str(name) if name is not None else DEFAULT_NAME
    if name is not None and os.path.isfile(os.path.expanduser(wanted)):
        return Path(os.path.expanduser(wanted))
    if wanted in bundled():
        return bundled()[wanted]
    if f"gcfsr-{wanted}" in bundled():  # GFPGAN's habit: -v 1.4
        return bundled()[f"gcfsr-{wanted}"]
    candidates = [wanted] if Path(wanted).suffix in SUFFIXES else [wanted + suffix for suffix in SUFFIXES]
    for candidate in candidates:
        path = find_file(escape(candidate), option) if os.sep not in candidate else None
        if path:
            return path
    if name is None:
        raise GCFSRError(
            f"{DEFAULT_NAME}: not in this installation; name a file with --checkpoint "
            "(`gcfsr weights` lists what is available, `gcfsr train` makes one)"
        )
    raise GCFSRError(
        f"{wanted}: no such checkpoint; --checkpoint takes a file, a bundled name "
        f"({', '.join(bundled()) or 'none here'}) or a name in the folder of --weights-dir or ${ENVIRONMENT}"
    )
