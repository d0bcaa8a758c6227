"""Parses `--method [LABEL=]SPEC[?option=value&...]`; free of torch, so that a missing file is reported at once."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from gcfsr_arch.errors import GCFSRError
from gcfsr_inference.restore.weights import resolve_checkpoint

OPTIONS = {
    "gcfsr": {"s", "dials"}, "basicsr": {"input", "range", "fit"}, "spandrel": {"input", "range", "fit"},
    "folder": set(), "python": set(), "bicubic": set(), "lanczos": set(),
}  # fmt: skip


@dataclass(frozen=True)
class MethodName:
    """What a specification says.

    Attributes:
        text: as it was given.
        label: its name in the tables; "" for the method's own.
        kind: one of `OPTIONS`.
        where: what follows the kind: a file, a folder, a function.
        options: those behind the question mark.
    """

    text: str
    label: str
    kind: str
    where: str
    options: dict[str, str]


def parse_method(text: str) -> MethodName:
    """Parses a specification, see `gcfsr evaluate --help`; a label before "=" replaces the method's own.

    Raises:
        GCFSRError: an option is unknown.
    """
    head, label_given, rest = text.partition("=")
    label, spec = (head, rest) if label_given and not set(head) & set(":/?\\") else ("", text)
    target, _, query = spec.partition("?")
    kind, _, where = target.partition(":")
    if kind not in OPTIONS or target == "gcfsr":
        kind, where = "gcfsr", target
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(options) - OPTIONS[kind])
    if unknown:
        known = ", ".join(sorted(OPTIONS[kind])) or "none"
        raise GCFSRError(f"--method {text}: unknown option {unknown[0]}; {kind} takes {known}")
    return MethodName(text, label, kind, where, options)


def check_method(name: MethodName) -> None:
    """Raises GCFSRError where a file or folder that a specification names is missing."""
    if name.kind == "gcfsr":
        checkpoint_of(name.where)
    elif name.kind == "basicsr":
        basicsr_files(name.where)
    elif name.kind == "spandrel":
        existing(name.where, "file")
    elif name.kind == "folder" and not existing(name.where, "folder").is_dir():
        raise GCFSRError(f"{name.where}: is not a folder")


def checkpoint_of(where: str) -> Path:
    """The file of a checkpoint of ours. Raises GCFSRError as of `resolve_checkpoint`."""
    return resolve_checkpoint(None if where == "gcfsr" else where)


def basicsr_files(where: str) -> tuple[Path, Path]:
    """OPTIONS.yml:CHECKPOINT as two files. Raises GCFSRError where one is missing."""
    options, _, checkpoint = where.rpartition(":")
    return existing(options, "BasicSR option file"), existing(checkpoint, "checkpoint")


def existing(path: str, what: str) -> Path:
    """The path, if there is something. Raises GCFSRError where there is nothing."""
    if not Path(path).exists():
        raise GCFSRError(f"{path}: no such {what}")
    return Path(path)
