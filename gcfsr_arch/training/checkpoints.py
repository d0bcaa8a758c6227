"""Checkpoints that are complete or absent: written beside, fsynced, renamed; the `.state` last, naming its networks.

One checkpoint is what BasicSR makes of it, under BasicSR's names: `models/net_g_K.pth`, `models/net_d_K.pth` and
`training_states/K.state`. The state carries size and CRC-32 of the networks written with it, so the three are known
to belong together; torch's own reader skips the CRC of its archives, `zipfile` does not.
"""

import os
import pickle
import re
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from gcfsr_arch.errors import GCFSRError, first_line
from gcfsr_arch.files import written_beside

MANIFEST = "gcfsr_networks"  # key of the state: {file name: {"size": bytes, "crc32": int}}
CHUNK = 1 << 22
# what zipfile and torch's restricted unpickler raise on a file that is damaged or something else
DAMAGE = (
    zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, EOFError, OSError, RuntimeError, ValueError, KeyError,
    AttributeError, TypeError, IndexError,
)  # fmt: skip


def save_atomic(content: Any, path: Path | str) -> None:
    """Atomic `torch.save`: the path holds the whole new file or the previous one, even after a power failure.

    Raises:
        GCFSRError: the file cannot be written (disk full, no permission); nothing new is left behind.
    """
    path = Path(path)
    with suppress(OSError):  # writing into it reports what is wrong
        path.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # so torch calls a failed write
            raise OSError(str(error)) from error


def fingerprint(path: Path | str) -> dict[str, int]:
    """Size and CRC-32 of a file."""
    crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            crc = zlib.crc32(chunk, crc)
    return {"size": os.path.getsize(path), "crc32": crc}


# ---------------------------------------------------------------- reading


def load_state(path: Path | str) -> dict[str, Any]:
    """A training state on the CPU, as plain data (`weights_only=True`), after its archive's CRCs were checked.

    Raises:
        GCFSRError: missing, truncated, damaged, or no training state.
    """
    path = Path(path)
    if not path.is_file():
        raise GCFSRError(
            f"{path}: there is no such training state; give an existing one or leave path.resume_state out"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
        state = None if bad else torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        reason = first_line(error)[:120]
        raise GCFSRError(
            f"{path}: damaged, truncated or no training state ({reason}); resume from an older one"
        ) from error
    if bad:
        raise GCFSRError(f"{path}: damaged (record {bad}); resume from an older one")
    if not isinstance(state, dict) or not {"epoch", "iter", "optimizers", "schedulers"} <= state.keys():
        raise GCFSRError(
            f"{path}: is not a training state of BasicSR (iter, epoch, optimizers or schedulers are missing)"
        )
    return state


def valid_state(path: Path | str) -> dict[str, Any]:
    """The state of a checkpoint whose every file is whole and belongs to it.

    Raises:
        GCFSRError: naming the file that is missing, damaged or of another run.
    """
    state = load_state(path)
    for name, known in state.get(MANIFEST, {}).items():
        network = models_folder(path) / name
        if not network.is_file():
            raise GCFSRError(f"{network}: is missing, it belongs to {path}; put it back or resume from another state")
        if fingerprint(network) != known:
            raise GCFSRError(f"{network}: is damaged or of another run, it does not belong to {path}")
    return state


def models_folder(state_path: Path | str) -> Path:
    """The folder of the networks that belong to a state."""
    return Path(state_path).parent.parent / "models"


def iterations(states: Path | str) -> list[int]:
    """Iterations that have a state in the folder, ascending."""
    folder = Path(states)
    names = (entry.name for entry in folder.glob("*.state")) if folder.is_dir() else ()
    return sorted(int(name[: -len(".state")]) for name in names if re.fullmatch(r"\d+\.state", name))


def newest_valid(states: Path | str) -> tuple[Path | None, dict[str, Any], list[str]]:
    """The newest checkpoint of the folder with no fault.

    Returns:
        Its state file (None where there is none), its state, and the faults of the newer ones.
    """
    faults = []
    for iteration in reversed(iterations(states)):
        path = Path(states) / f"{iteration}.state"
        try:
            return path, valid_state(path), faults
        except GCFSRError as error:
            faults.append(str(error))
    return None, {}, faults


# ---------------------------------------------------------------- pruning


def prune(states: Path | str, keep_last: int) -> None:
    """Removes all but the newest `keep_last` checkpoints, a state before its networks, so that none is incomplete."""
    for iteration in iterations(states)[:-keep_last]:
        state = Path(states) / f"{iteration}.state"
        state.unlink(missing_ok=True)
        for network in models_folder(state).glob(f"net_*_{iteration}.pth"):
            network.unlink(missing_ok=True)


def remove_partial(*folders: Path | str) -> None:
    """Removes half-written files of a killed run."""
    for folder in folders:
        for path in Path(folder).glob(".*.partial"):
            path.unlink(missing_ok=True)
