"""Reads and writes networks: our safetensors, BasicSR's .pth, the released .pth. Nothing is unpickled."""

import json
import pickle
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from gcfsr_arch.config import GCFSRConfig
from gcfsr_arch.discriminator import GCFSRDiscriminator
from gcfsr_arch.errors import GCFSRError, first_line
from gcfsr_arch.files import check_file, write_atomic
from gcfsr_arch.generator import GCFSR
from gcfsr_arch.state_dict import State, fit, infer_config, matched

MAX_BYTES = 4 << 30  # of a file; the largest network of the paper takes 270 MB


def read_state(path: str | Path, prefer: Sequence[str] = ("params_ema", "params")) -> tuple[State, GCFSRConfig | None]:
    """Reads a checkpoint without unpickling objects.

    Takes safetensors, a bare state dict, or a dict with `params_ema` or `params`; a `module.` prefix is dropped.

    Args:
        path: the file, 4 GiB at most.
        prefer: which of the dict's entries to take, the first that is there.

    Returns:
        The parameters and buffers as stored, and the network's arguments where they are stored.

    Raises:
        GCFSRError: the file does not exist, is damaged, or is not a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise GCFSRError(f"{path}: there is no such checkpoint file")
    if path.suffix == ".onnx":
        raise GCFSRError(f"{path}: is ONNX; run it with --backend onnx, or name the checkpoint it came from")
    check_file(path)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise GCFSRError(f"{path}: it has {size:,} bytes; a checkpoint has at most {MAX_BYTES:,}")
    try:
        found, config = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pth(path, prefer)
    except GCFSRError:
        raise
    except pickle.UnpicklingError as error:
        raise GCFSRError(f"{path}: it holds more than tensors (or is damaged), so it is not loaded") from error
    except OSError as error:
        raise GCFSRError(f"{path}: cannot be read ({error.strerror or type(error).__name__})") from error
    except Exception as error:  # on a damaged file the readers raise almost any exception
        raise GCFSRError(f"{path}: it is damaged or not a checkpoint ({first_line(error)})") from error
    state = {key.removeprefix("module."): value for key, value in found.items() if isinstance(key, str)}
    if not state or len(state) < len(found) or not all(isinstance(value, Tensor) for value in state.values()):
        raise GCFSRError(f"{path}: it holds no network (a dict of tensors, alone or under 'params_ema', is needed)")
    tensors = cast("State", state)
    _check_storage(path, tensors, size)
    return tensors, None if config is None else _parse_config(path, config)


def _read_safetensors(path: Path) -> tuple[dict[object, object], object]:
    opened: Any = safe_open(path, framework="pt")  # untyped upstream
    with opened as file:
        metadata = cast("dict[str, str]", file.metadata() or {})
        return {name: file.get_tensor(name) for name in list(file.keys())}, metadata.get("config")


def _read_pth(path: Path, prefer: Sequence[str]) -> tuple[dict[object, object], object]:
    """The state dict of a .pth, found under a preferred key or bare, and the configuration beside it."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise GCFSRError(f"{path}: it is a compressed archive, which torch.save does not write; not loaded")
    with open(path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        if data.find(b"bytearray") >= 0:  # torch allows it, and one of them takes as much memory as it asks for
            raise pickle.UnpicklingError
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of the pickle protocol before it raises
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    outer = cast("dict[object, object]", content) if isinstance(content, dict) else {}
    for key in prefer:
        inner = outer.get(key)
        if isinstance(inner, dict):
            return cast("dict[object, object]", inner), outer.get("config")
    return outer, None


def _check_storage(path: Path, state: State, size: int) -> None:
    """Raises GCFSRError unless every tensor is dense, in floating point, and has its values in the file."""
    for key, value in state.items():
        number = value.is_floating_point() or key.endswith(".num_batches_tracked")  # the counter of a batch norm
        if value.is_nested or value.layout != torch.strided or not number or value.device.type != "cpu":
            raise GCFSRError(f"{path}: key '{key}' is not a dense tensor of floating-point numbers")
    claimed = sum(value.numel() * value.element_size() for value in state.values())
    if claimed > size:
        raise GCFSRError(f"{path}: its tensors need {claimed:,} bytes, but the file has {size:,}; it is not loaded")


def _parse_config(path: Path, config: object) -> GCFSRConfig:
    try:
        return GCFSRConfig.from_json(config if isinstance(config, str) else "")
    except GCFSRError as error:
        raise GCFSRError(f"{path}: its stored configuration: {error}") from error


def load_generator(path: str | Path, max_factor: float | None = None, device: str | torch.device = "cpu") -> GCFSR:
    """Loads a generator in eval mode from any of the known forms, recognised by keys and shapes.

    Args:
        path: safetensors of `save_generator`, BasicSR's net_g_*.pth of ours, or the authors' released .pth.
        max_factor: the factor of s = 1, if the file does not store it.
        device: where the network goes.

    Raises:
        GCFSRError: the file does not exist or is damaged, or naming the first argument or key that is invalid.
    """
    state, config = read_state(path)
    try:
        config = config or infer_config(state)
        if config is not None and max_factor is not None:
            config = replace(config, max_factor=max_factor)
    except GCFSRError as error:
        raise GCFSRError(f"{path}: {error}") from error
    if config is None:
        raise GCFSRError(f"{path}: unexpected key '{next(iter(state))}'; it is not a generator of GCFSR")
    with torch.device("meta"):
        plan = GCFSR(**config.to_dict())
    weights = matched(plan, state, path)  # before any memory is taken for the network
    net = GCFSR(**config.to_dict())
    net.load_state_dict(weights)
    return net.eval().to(device)


def load_discriminator(path: str | Path, net: GCFSRDiscriminator) -> None:
    """Loads a discriminator's weights, ours or the released ones, into `net`.

    Raises:
        GCFSRError: the file does not exist or is damaged, or naming the first argument or key that is invalid.
    """
    fit(net, read_state(path)[0], path)


def save_generator(net: GCFSR, path: str | Path, half: bool = False, extra: dict[str, str] | None = None) -> None:
    """Writes safetensors with the network's arguments in the metadata (key `config`), whole or not at all.

    Args:
        net: the network.
        path: target, .safetensors.
        half: store the parameters as float16 (they load back as float32).
        extra: further metadata, for example licence and training data.

    Raises:
        GCFSRError: the file cannot be written.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
    if half:  # not buffers: a variance from rounded moments may be far off
        state |= {key: state[key].half() for key, _ in net.named_parameters()}
    write_atomic(
        path, _serialised(state, {"format": "pt", "config": json.dumps(net.config.to_dict()), **(extra or {})})
    )


def _serialised(state: State, metadata: dict[str, str]) -> bytes:
    """The bytes of a safetensors file, the same for the same content: the library shuffles the metadata's keys."""
    data = save(state)
    start = 8 + int.from_bytes(data[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(data[8:start])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text + data[start:]
