"""Reading and writing networks: our safetensors, BasicSR's .pth, the released .pth. Nothing is unpickled."""

import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from gcfsr_arch.discriminator import GCFSRDiscriminator
from gcfsr_arch.errors import GCFSRError
from gcfsr_arch.generator import GCFSR

State = dict[str, Tensor]


def released_name(name: str, out_size: int) -> str:
    """The key that the released code gives to a parameter of ours; the one place where its names are known.

    Encoder and modulation count from the largest level down, the generator from 32 pixels up.
    """
    rules = (
        (r"encoder\.first\.(weight|bias)", lambda m: f"conv_body_first.{_conv_key(m[1])}"),
        (r"encoder\.down\.(\d+)\.(weight|bias)", lambda m: f"conv_body_down.{below(m[1]) - 1}.{_conv_key(m[2], 1)}"),
        (r"encoder\.top\.(weight|bias)", lambda m: f"final_conv.{_conv_key(m[1])}"),
        (r"encoder\.skip\.(\d+)\.(weight|bias)", lambda m: f"condition_shift.{below(m[1])}.0.{m[2]}"),
        (r"encoder\.head\.down(\d)\.(weight|bias)", lambda m: f"final_down{m[1]}.{_conv_key(m[2], 1)}"),
        (r"encoder\.head\.linear\.(weight|bias)", lambda m: f"final_linear.{m[1]}"),
        (r"modulation\.gen\.(\d+)\.(weight|bias)", lambda m: f"condition_scale1.{below(m[1])}.{m[2]}"),
        (r"modulation\.enc\.(\d+)\.(weight|bias)", lambda m: f"condition_scale2.{below(m[1])}.{m[2]}"),
        (r"levels\.(\d+)\.(up|conv)\.(.+)", lambda m: f"{style_conv(int(m[1]), m[2])}.{_STYLE_CONV[m[3]]}"),
        (r"levels\.16\.to_rgb\.(.+)", lambda m: f"to_rgb1.{_STYLE_CONV.get('rgb.' + m[1], _STYLE_CONV[m[1]])}"),
        (
            r"levels\.(\d+)\.to_rgb\.(.+)",
            lambda m: f"to_rgbs.{above(m[1])}.{_STYLE_CONV.get('rgb.' + m[2], _STYLE_CONV[m[2]])}",
        ),
        (r"first\.(weight|bias)", lambda m: f"conv_body.0.{_conv_key(m[1])}"),
        (r"blocks\.(\d+)\.conv1\.(weight|bias)", lambda m: f"conv_body.{int(m[1]) + 1}.conv1.{_conv_key(m[2])}"),
        (r"blocks\.(\d+)\.conv2\.(weight|bias)", lambda m: f"conv_body.{int(m[1]) + 1}.conv2.{_conv_key(m[2], 1)}"),
        (r"blocks\.(\d+)\.skip\.weight", lambda m: f"conv_body.{int(m[1]) + 1}.skip.1.weight"),
        (r"final_conv\.(weight|bias)", lambda m: f"final_conv.{_conv_key(m[1])}"),
        (r"linear(\d)\.(weight|bias)", lambda m: f"final_linear.{int(m[1]) - 1}.{m[2]}"),
    )

    def below(size: str) -> int:
        return (out_size // int(size)).bit_length() - 1  # levels below the largest

    def above(size: str) -> int:
        return (int(size) // 32).bit_length() - 1  # levels above 32 pixels

    def style_conv(size: int, which: str) -> str:
        return "style_conv1" if size == 16 else f"style_convs.{2 * above(str(size)) + (which == 'conv')}"

    for pattern, target in rules:
        match = re.fullmatch(pattern, name)
        if match:
            return target(match)
    raise KeyError(name)


_STYLE_CONV = {
    "conv.weight": "modulated_conv.weight",
    "conv.style.weight": "modulated_conv.modulation.weight",
    "conv.style.bias": "modulated_conv.modulation.bias",
    "noise_strength": "weight",
    "bias": "activate.bias",
    "rgb.bias": "bias",
}


def _conv_key(kind: str, start: int = 0) -> str:
    return f"{start}.weight" if kind == "weight" else f"{start + 1}.bias"  # [blur,] convolution, activation


def write_atomic(path: str | Path, data: bytes) -> None:
    """Writes beside the target, syncs and renames: the file is whole or absent."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise GCFSRError(f"{path}: it cannot be written ({error.strerror or error})") from error


def read_state(path: str | Path) -> tuple[State, dict[str, Any] | None]:
    """Reads a checkpoint without unpickling objects.

    Takes safetensors, a bare state dict, or a dict with `params_ema` or `params`; a `module.` prefix is dropped.

    Returns:
        The parameters and buffers in float32, and the network's arguments where they are stored.

    Raises:
        GCFSRError: no such file, damaged, or not a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise GCFSRError(f"{path}: there is no such checkpoint file")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                config = (file.metadata() or {}).get("config")
                state: Any = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
            config = state.get("config") if isinstance(state, dict) else None
    except pickle.UnpicklingError as error:
        raise GCFSRError(f"{path}: it holds more than tensors (or is damaged), so it is not loaded") from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise GCFSRError(f"{path}: it is damaged or no checkpoint ({str(error).splitlines()[0]})") from error
    for key in ("params_ema", "params"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
            break
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise GCFSRError(f"{path}: it holds no network (a dict of tensors, alone or under 'params_ema', is needed)")
    state = {key.removeprefix("module."): value.float() for key, value in state.items()}
    return state, _read_config(path, config)


def _read_config(path: Path, config: str | None) -> dict[str, Any] | None:
    if config is None:
        return None
    try:
        return json.loads(config)
    except (json.JSONDecodeError, TypeError) as error:
        raise GCFSRError(f"{path}: its stored configuration is not JSON") from error


def infer_config(state: State) -> dict[str, Any] | None:
    """The arguments of `GCFSR` that a state dict stands for, from its keys and shapes; None if it is no generator."""
    released = "conv_body_first.0.weight" in state
    if not released and "encoder.first.weight" not in state:
        return None
    skip = r"condition_shift\.(\d+)\.0\.weight" if released else r"encoder\.skip\.(\d+)\.weight"
    shapes = {int(m[1]): state[key].shape[0] for key in state if (m := re.fullmatch(skip, key))}
    if not shapes:
        return None
    out_size = 16 << (len(shapes) - 1)
    if released:
        shapes = {out_size >> k: c for k, c in shapes.items()}
    base, first_wide = shapes.get(16, 512), shapes.get(64)
    style = "style_conv1.modulated_conv.modulation.weight" if released else "levels.16.conv.conv.style.weight"
    down2 = state.get("final_down2.1.weight" if released else "encoder.head.down2.weight")
    config: dict[str, Any] = {
        "out_size": out_size,
        "narrow": base / 512,
        "channel_multiplier": 2 if first_wide is None else first_wide / (256 * base / 512),
        "style_modulation": style in state,
        "feature_modulation": released or any(key.startswith("modulation.") for key in state),
        "variant": "released" if released or "encoder.top.weight" in state else "paper",
    }
    if style in state:
        config["num_style_feat"] = state[style].shape[1]
    if config["variant"] == "released" and down2 is not None and down2.shape[0] == down2.shape[1]:
        config["blind"] = True
    return config


def fit(net: nn.Module, state: State, name_of: Any = None, path: str | Path = "the checkpoint") -> None:
    """Loads a state dict into a network, key by key.

    Args:
        net: the network, changed in place.
        state: parameters; leading axes of one may be there or not.
        name_of: maps our key to the state's; None takes it as it is.
        path: for the error.

    Raises:
        GCFSRError: naming the first key that is missing, has another shape, or is too much.
    """
    left = {key for key in state if not key.startswith("noises.")}  # released buffers of wrong sizes, never used
    loaded: State = {}
    for key, own in net.state_dict().items():
        theirs = key if name_of is None else name_of(key)
        if theirs not in state:
            raise GCFSRError(f"{path}: key '{theirs}' is missing; it is a checkpoint of another network")
        value = state[theirs]
        if _core_shape(value) != _core_shape(own):
            raise GCFSRError(
                f"{path}: key '{theirs}' has shape {tuple(value.shape)}, the network needs {tuple(own.shape)}"
            )
        loaded[key] = value.reshape(own.shape)
        left.discard(theirs)
    if left:
        raise GCFSRError(f"{path}: key '{min(left)}' belongs to no part of the network")
    net.load_state_dict(loaded)


def _core_shape(x: Tensor) -> tuple[int, ...]:
    return tuple(n for n in x.shape if n != 1)  # the released kernels carry a leading axis of one


def load_generator(path: str | Path, max_factor: float | None = None, device: str | torch.device = "cpu") -> GCFSR:
    """Loads a generator in eval mode, whatever wrote it; the form is read from the keys and shapes alone.

    Args:
        path: safetensors of `save_generator`, BasicSR's net_g_*.pth of ours, or the authors' released .pth.
        max_factor: the factor that s = 1 stands for, where the file does not store it.
        device: where the network goes.

    Raises:
        GCFSRError: no such file, damaged, or the first key that does not fit.
    """
    state, config = read_state(path)
    released = "conv_body_first.0.weight" in state
    config = config or infer_config(state)
    if config is None:
        raise GCFSRError(f"{path}: key '{next(iter(state))}' belongs to no generator of GCFSR")
    if max_factor is not None:
        config = {**config, "max_factor": max_factor}
    try:
        net = GCFSR(**config)
    except TypeError as error:
        raise GCFSRError(f"{path}: its stored configuration does not fit ({error})") from error
    fit(net, state, (lambda key: released_name(key, net.out_size)) if released else None, path)
    return net.eval().to(device)


def load_discriminator(path: str | Path, net: GCFSRDiscriminator, out_size: int) -> None:
    """Loads a discriminator's weights, ours or the released ones, into `net`.

    Raises:
        GCFSRError: no such file, damaged, or the first key that does not fit.
    """
    state, _ = read_state(path)
    released = "conv_body.0.0.weight" in state
    fit(net, state, (lambda key: released_name(key, out_size)) if released else None, path)


def save_generator(net: GCFSR, path: str | Path, half: bool = False, extra: dict[str, str] | None = None) -> None:
    """Writes safetensors with the network's arguments in the metadata (key `config`), whole or not at all.

    Args:
        net: the network.
        path: target, .safetensors.
        half: store float16 (loads back as float32).
        extra: further metadata, for example licence and training data.

    Raises:
        GCFSRError: the file cannot be written.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
    if half:
        state = {key: value.half() for key, value in state.items()}
    write_atomic(path, save(state, {"format": "pt", "config": json.dumps(net.config), **(extra or {})}))
